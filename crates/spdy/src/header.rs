//! Header blocks (section 2.6.10): names and values in one zlib stream a
//! direction, which begins with a dictionary that both ends know.

use bytes::{Buf, BufMut, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};

/// The dictionary of SPDY/3, part of the protocol.
pub(crate) const DICTIONARY: &[u8; 1423] = include_bytes!("dictionary.bin");

/// Bytes of a stored block of DEFLATE.
const STORED_BYTES_MAX: usize = 0xffff;

/// An empty stored block.
const FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// The headers of a stream. Names are lower-case; a name may have several values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// A block as the next part of a direction's zlib stream, in stored blocks:
/// the few short headers of an answer are not worth the 256 KB that a
/// compressor holds for as long as the connection is open.
pub(crate) fn encode_block(headers: &Headers, first: bool) -> BytesMut {
    // The values of one name travel together, with NULs between them.
    let mut merged: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, value) in headers.iter() {
        match merged.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => merged.push((name, vec![value])),
        }
    }
    let mut plain = BytesMut::new();
    plain.put_u32(merged.len() as u32);
    for (name, values) in merged {
        for text in [name, &values.join("\0")] {
            plain.put_u32(text.len() as u32);
            plain.put_slice(text.as_bytes());
        }
    }
    let mut out = BytesMut::with_capacity(plain.len() + 16);
    if first {
        // DEFLATE with a window of 32 KiB, no dictionary, no effort (RFC 1950).
        out.put_slice(&[0x78, 0x01]);
    }
    for piece in plain.chunks(STORED_BYTES_MAX) {
        let length = piece.len() as u16;
        out.put_u8(0);
        out.put_u16_le(length);
        out.put_u16_le(!length);
        out.put_slice(piece);
    }
    // The empty block of a flush: some readers hand nothing out before it.
    out.put_slice(&FLUSH);
    out
}

/// Reads the blocks of one direction.
pub(crate) struct Decoder {
    inflate: Option<Box<Decompress>>,
    bytes_max: usize,
}

impl Decoder {
    /// Blocks above `bytes_max` bytes (as plain text) are faults.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { inflate: None, bytes_max }
    }

    /// A block's headers; the reason where it cannot be read, after which no
    /// later block can be read either.
    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Headers, &'static str> {
        let plain = self.inflate(block)?;
        parse(&plain)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, &'static str> {
        let inflate = self.inflate.get_or_insert_with(|| Box::new(Decompress::new(true)));
        // One more than allowed tells a block that is too large.
        let mut plain = Vec::with_capacity(self.bytes_max + 1);
        loop {
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync);
            let used = (inflate.total_in() - before_in) as usize;
            block = &block[used..];
            match status {
                Err(error) if error.needs_dictionary().is_some() => {
                    let known = inflate.set_dictionary(DICTIONARY);
                    known.map_err(|_| "a header block asks for an unknown dictionary")?;
                    continue;
                }
                Err(_) => return Err("a header block is not compressed as it should be"),
                Ok(Status::StreamEnd) => return Err("the compressed headers have ended"),
                Ok(Status::Ok | Status::BufError) => {}
            }
            if plain.len() > self.bytes_max {
                return Err("a header block is too large");
            }
            if block.is_empty() || (used == 0 && inflate.total_out() == before_out) {
                break;
            }
        }
        match block.is_empty() {
            true => Ok(plain),
            false => Err("a header block is not compressed as it should be"),
        }
    }
}

fn parse(mut plain: &[u8]) -> Result<Headers, &'static str> {
    const SHORT: &str = "a header block is cut short";
    let mut count = plain.try_get_u32().map_err(|_| SHORT)?;
    let mut headers = Vec::new();
    while count > 0 {
        count -= 1;
        let mut text = || -> Result<&str, &'static str> {
            let length = plain.try_get_u32().map_err(|_| SHORT)? as usize;
            let text = plain.get(..length).ok_or(SHORT)?;
            plain.advance(length);
            std::str::from_utf8(text).map_err(|_| "a header is no text")
        };
        let (name, values) = (text()?, text()?);
        if name.is_empty() || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err("a header's name is empty or not lower-case");
        }
        for value in values.split('\0') {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    match plain.is_empty() {
        true => Ok(Headers(headers)),
        false => Err("a header block is longer than it says"),
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().copied().collect()
    }

    /// The way other implementations write blocks.
    fn deflate(context: &mut Compress, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(plain.len() + 256);
        context.compress_vec(plain, &mut out, FlushCompress::Sync).expect("room");
        out
    }

    #[test]
    fn blocks_of_a_direction_are_one_zlib_stream() {
        let (first, second) =
            (headers(&[("port", "80"), ("streamtype", "data")]), headers(&[("a", ""), ("a", "b")]));
        let mut decoder = Decoder::new(1000);
        assert_eq!(decoder.decode(&encode_block(&first, true)), Ok(first));
        assert_eq!(decoder.decode(&encode_block(&second, false)), Ok(second));
        assert_eq!(decoder.decode(&encode_block(&headers(&[]), false)), Ok(headers(&[])));
    }

    #[test]
    fn a_block_is_stored_and_flushed() {
        let block = encode_block(&headers(&[]), true);
        assert_eq!(block.as_ref(), b"\x78\x01\0\x04\0\xfb\xff\0\0\0\0\0\0\0\xff\xff");
    }

    #[test]
    fn blocks_compressed_with_the_dictionary_are_read() {
        let mut context = Compress::new(Compression::best(), true);
        assert_eq!(context.set_dictionary(DICTIONARY).expect("at the start"), 0xe3c6_a7c2);
        let mut decoder = Decoder::new(1000);
        for _ in 0..3 {
            let sent = headers(&[("accept-language", "en"), ("streamtype", "stdin")]);
            let block = encode_block(&sent, false);
            let plain = &block[5..block.len() - FLUSH.len()];
            assert_eq!(decoder.decode(&deflate(&mut context, plain)), Ok(sent));
        }
    }

    #[test]
    fn what_unpacks_to_more_than_allowed_is_a_fault() {
        let mut context = Compress::new(Compression::best(), true);
        let bomb = deflate(&mut context, &vec![0; 1 << 20]);
        assert!(bomb.len() < 4000);
        assert_eq!(Decoder::new(4096).decode(&bomb), Err("a header block is too large"));
    }

    #[test]
    fn blocks_that_lie_are_faults() {
        for (plain, fault) in [
            (&b"\0\0\0\x01\0\0"[..], "a header block is cut short"),
            (b"\xff\xff\xff\xff", "a header block is cut short"),
            (b"\0\0\0\x01\xff\xff\xff\xffa", "a header block is cut short"),
            (b"\0\0\0\0x", "a header block is longer than it says"),
            (b"\0\0\0\x01\0\0\0\x01A\0\0\0\0", "a header's name is empty or not lower-case"),
            (b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\0", "a header is no text"),
        ] {
            assert_eq!(parse(plain), Err(fault));
        }
    }

    proptest! {
        #[test]
        fn no_block_panics(blocks: Vec<Vec<u8>>) {
            let mut decoder = Decoder::new(512);
            for block in blocks {
                let _ = decoder.decode(&block);
            }
        }

        #[test]
        fn no_plain_block_panics(plain: Vec<u8>) {
            let _ = parse(&plain);
        }

        #[test]
        fn blocks_come_back(pairs in proptest::collection::vec(("[a-z-]{1,9}", "[^\0]{0,9}"), 0..9)) {
            let sent: Headers = pairs.into_iter().collect();
            let mut read = Decoder::new(10_000).decode(&encode_block(&sent, true)).expect("our own").0;
            let mut sent = sent.0;
            read.sort();
            sent.sort();
            prop_assert_eq!(read, sent);
        }
    }
}
