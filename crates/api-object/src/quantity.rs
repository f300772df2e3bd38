//! `resource.Quantity`: a decimal with an SI, binary or exponent suffix.

use std::{cmp::Ordering, fmt, ops};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of a resource, exact to a billionth (`n`), which is as fine as
/// Kubernetes goes. Values past the range of `i128` nanos are capped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Which family of suffixes a quantity prints with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `m`, `k`, `M`: powers of ten.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`: powers of 1024.
    BinarySi,
    /// `e3`.
    DecimalExponent,
}

/// Why a text is no quantity; upstream's wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantityError;

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    }
}

impl std::error::Error for QuantityError {}

const NANO: i128 = 1_000_000_000;
const BINARY: [(&str, u32); 6] =
    [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

impl Quantity {
    /// A whole number of units.
    pub fn from_units(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANO, format: Format::DecimalSi }
    }

    /// A whole number of thousandths, as CPU is counted.
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// A number of bytes, printed with binary suffixes.
    pub fn from_bytes(bytes: u64) -> Self {
        Self { nanos: i128::from(bytes) * NANO, format: Format::BinarySi }
    }

    /// The same, printed with binary suffixes where it is whole.
    pub fn binary(self) -> Self {
        Self { format: Format::BinarySi, ..self }
    }

    /// Reads `100m`, `1.5Gi`, `2e3`, `-1`.
    ///
    /// # Errors
    /// Where the text is not a number with one known suffix.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (negative, digits) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
        let (number, suffix) = digits.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError);
        }
        let (binary_shift, exponent, format) = parse_suffix(suffix)?;
        // value = digits × 10^(exponent − len(fraction)) × 2^shift, in nanos.
        let mut mantissa = saturating_digits(whole.bytes().chain(fraction.bytes()));
        let mut power = exponent - i32::try_from(fraction.len()).map_err(|_| QuantityError)? + 9;
        if binary_shift > 0 {
            mantissa = mantissa.saturating_mul(1i128 << binary_shift);
        }
        while power > 0 && mantissa != 0 && mantissa != i128::MAX {
            mantissa = mantissa.saturating_mul(10);
            power -= 1;
        }
        // Upstream rounds up what is finer than a nano, away from zero.
        let mut inexact = false;
        while power < 0 && mantissa != 0 {
            inexact |= mantissa % 10 != 0;
            mantissa /= 10;
            power += 1;
        }
        let nanos = mantissa.saturating_add(i128::from(inexact));
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// Units, rounded up: bytes of memory, counts of pods.
    pub fn units(self) -> i64 {
        clamp(ceil_div(self.nanos, NANO))
    }

    /// Thousandths, rounded up: CPU.
    pub fn millis(self) -> i64 {
        clamp(ceil_div(self.nanos, NANO / 1000))
    }

    /// The number of units where it is whole and fits.
    pub fn whole(self) -> Option<i64> {
        if self.nanos % NANO != 0 {
            return None;
        }
        i64::try_from(self.nanos / NANO).ok()
    }

    /// The number of units, to the precision of a double.
    pub fn approximate(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether it is exactly zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Rounded up to a thousandth: what the API server stores in ResourceLists.
    pub fn rounded_to_milli(self) -> Self {
        let milli = NANO / 1000;
        Self { nanos: ceil_div(self.nanos, milli).saturating_mul(milli), format: self.format }
    }
}

fn ceil_div(a: i128, b: i128) -> i128 {
    a.div_euclid(b) + i128::from(a.rem_euclid(b) != 0)
}

fn clamp(n: i128) -> i64 {
    n.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

fn saturating_digits(digits: impl Iterator<Item = u8>) -> i128 {
    digits.fold(0i128, |n, digit| n.saturating_mul(10).saturating_add(i128::from(digit - b'0')))
}

fn parse_suffix(suffix: &str) -> Result<(u32, i32, Format), QuantityError> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((0, *exponent, Format::DecimalSi));
    }
    if let Some((_, shift)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok((*shift, 0, Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError)?;
    let exponent: i32 = exponent.parse().map_err(|_| QuantityError)?;
    if !(-100..=100).contains(&exponent) {
        return Err(QuantityError);
    }
    Ok((0, exponent, Format::DecimalExponent))
}

impl fmt::Display for Quantity {
    /// Upstream's canonical form: no fraction, the largest suffix that fits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let magnitude = self.nanos.unsigned_abs();
        let sign = if self.nanos < 0 { "-" } else { "" };
        let unit = NANO.unsigned_abs();
        // Binary suffixes only express whole numbers of at least 1024 units.
        if self.format == Format::BinarySi
            && magnitude.is_multiple_of(unit)
            && magnitude / unit >= 1024
        {
            let units = magnitude / unit;
            let (suffix, shift) = BINARY
                .iter()
                .rev()
                .find(|(_, shift)| units.is_multiple_of(1u128 << shift))
                .map_or(("", 0), |(suffix, shift)| (*suffix, *shift));
            return write!(f, "{sign}{}{suffix}", units >> shift);
        }
        for (suffix, exponent) in DECIMAL.iter().rev() {
            let scale = 10u128.pow(u32::try_from(exponent + 9).unwrap_or(0));
            if magnitude.is_multiple_of(scale) {
                let number = magnitude / scale;
                return match (self.format, exponent) {
                    (Format::DecimalExponent, e) if *e != 0 => write!(f, "{sign}{number}e{e}"),
                    _ => write!(f, "{sign}{number}{suffix}"),
                };
            }
        }
        write!(f, "{sign}{magnitude}n")
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }
}

impl ops::Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(other.nanos), format: self.format }
    }
}

impl ops::AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), ops::Add::add)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Numbers are allowed in manifests: `cpu: 1`.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Number(serde_json::Number),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Text(text) => text,
            Form::Number(number) => number.to_string(),
        };
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("0", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("2e3", "2e3"),
            ("1E", "1E"),
            ("-1.5", "-1500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("0.0000000001", "1n"),
        ] {
            assert_eq!(Quantity::parse(text).expect(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn no_quantity() {
        for text in ["", ".", "m", "1mm", "1 Gi", "1e", "1.2.3", "0x1", "1KI", "--1", "1e999"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rounding_is_up() {
        let q = |text| Quantity::parse(text).expect("valid");
        assert_eq!((q("100m").units(), q("1500m").units(), q("1u").millis()), (1, 2, 1));
        assert_eq!(q("-1500m").units(), -1);
        assert_eq!(q("1u").rounded_to_milli(), q("1m"));
        assert_eq!(q("1Gi") + q("1Gi"), q("2Gi"));
        assert!(q("1Gi") > q("1G"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+0-9.eEinumkKMGTP]{0,40}|.{0,20}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                let printed = quantity.to_string();
                prop_assert_eq!(Quantity::parse(&printed), Ok(quantity));
            }
        }
    }
}
