//! Numbers as Go's encoders write them.

use serde_json::Number;

/// In JSON: whole where it can be, with an exponent only if it is very large or small.
pub(crate) fn json(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => json_float(float),
        None => number.to_string(),
    }
}

/// The same, of a fraction.
pub(crate) fn json_float(float: f64) -> String {
    match float == 0.0 || (1e-6..1e21).contains(&float.abs()) {
        true => float.to_string(),
        false => with_sign(&format!("{float:e}"), 1),
    }
}

/// In YAML: fractions have an exponent already from the seventh digit on.
pub(crate) fn yaml(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let text = json_float(float);
    // What is whole is read back as an integer before it is written.
    if let Ok(whole) = text.parse::<i64>() {
        return whole.to_string();
    }
    if text.parse::<u64>().is_ok() {
        return text;
    }
    match (1e-4..1e6).contains(&float.abs()) {
        true => text,
        false => with_sign(&format!("{float:e}"), 2),
    }
}

/// `1e30` as `1e+30`, with so many digits behind the sign at least.
fn with_sign(text: &str, digits_min: usize) -> String {
    let (mantissa, exponent) = text.split_once('e').expect("Rust writes an exponent");
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>digits_min$}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    // What is expected here was printed by kubectl v1.37.1.
    #[test]
    fn numbers_are_written_as_kubectl_does() {
        for (value, in_json, in_yaml) in [
            (json!(-5), "-5", "-5"),
            (json!(1.5), "1.5", "1.5"),
            (json!(1.0), "1", "1"),
            (json!(-0.0), "-0", "0"),
            (json!(1e6), "1000000", "1000000"),
            (json!(123456789.123), "123456789.123", "1.23456789123e+08"),
            (json!(123456.5), "123456.5", "123456.5"),
            (json!(1e16), "10000000000000000", "10000000000000000"),
            (json!(1e20), "100000000000000000000", "1e+20"),
            (json!(1e30), "1e+30", "1e+30"),
            (json!(0.0001), "0.0001", "0.0001"),
            (json!(0.00001), "0.00001", "1e-05"),
            (json!(1e-7), "1e-7", "1e-07"),
        ] {
            let Value::Number(number) = value else { panic!("{value} is a number") };
            assert_eq!((&*json(&number), &*yaml(&number)), (in_json, in_yaml));
        }
    }
}
