//! gzip, zstd or nothing, told apart by the first bytes: media types lie.

use std::io::{self, BufRead, BufReader, Read};

use ruzstd::decoding::{
    StreamingDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads what is uncompressed. `size` is the buffer towards the source.
pub(crate) fn decompress<'a>(source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(64 << 10, source);
    let start = source.fill_buf()?;
    Ok(match start {
        _ if start.starts_with(&GZIP) => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        _ if start.starts_with(&ZSTD) => Box::new(ZstdFrames { state: Zstd::Between(source) }),
        _ => Box::new(source),
    })
}

/// Whether a file that starts so is compressed.
pub(crate) fn is_compressed(start: &[u8]) -> bool {
    start.starts_with(&GZIP) || start.starts_with(&ZSTD)
}

/// A file of several frames, as `zstd:chunked` and parallel writers make them;
/// the decoder itself stops after the first.
struct ZstdFrames<R: BufRead> {
    state: Zstd<R>,
}

enum Zstd<R: BufRead> {
    Between(R),
    Inside(Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>),
    End,
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(&mut self.state, Zstd::End) {
                Zstd::End => return Ok(0),
                Zstd::Between(mut source) => {
                    if source.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    match skippable(&mut source)? {
                        Some(length) => {
                            let skipped = io::copy(
                                &mut (&mut source).take(u64::from(length)),
                                &mut io::sink(),
                            )?;
                            if skipped < u64::from(length) {
                                return Err(io::ErrorKind::UnexpectedEof.into());
                            }
                            self.state = Zstd::Between(source);
                        }
                        None => {
                            let decoder = StreamingDecoder::new(source).map_err(invalid)?;
                            self.state = Zstd::Inside(Box::new(decoder));
                        }
                    }
                }
                Zstd::Inside(mut decoder) => {
                    let count = decoder.read(buffer)?;
                    if count > 0 || buffer.is_empty() {
                        self.state = Zstd::Inside(decoder);
                        return Ok(count);
                    }
                    self.state = Zstd::Between(decoder.into_inner());
                }
            }
        }
    }
}

/// Takes the head of a skippable frame and gives its length; other frames stay
/// untouched.
fn skippable(source: &mut impl BufRead) -> io::Result<Option<u32>> {
    let start = source.fill_buf()?;
    // A head that straddles two fills of the buffer is rare enough to be read
    // as what it is: not skippable, and then the decoder says so.
    match start {
        [first, 0x2a, 0x4d, 0x18, a, b, c, d, ..] if first & 0xf0 == 0x50 => {
            let length = u32::from_le_bytes([*a, *b, *c, *d]);
            source.consume(8);
            Ok(Some(length))
        }
        _ => Ok(None),
    }
}

fn invalid(error: FrameDecoderError) -> io::Error {
    match error {
        FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::MagicNumberReadError(
            error,
        )) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        decompress(bytes)?.read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn gzip_zstd_and_plain_are_told_apart() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"hello").expect("in memory");
        let gzip = gzip.finish().expect("in memory");
        assert_eq!(read(&gzip).expect("valid"), b"hello");
        let zstd = ruzstd::encoding::compress_to_vec(
            &b"hello"[..],
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        assert_eq!(read(&zstd).expect("valid"), b"hello");
        assert_eq!(read(b"hello").expect("valid"), b"hello");
        // Several members, frames, and a skippable frame between them.
        assert_eq!(read(&[&gzip[..], &gzip].concat()).expect("valid"), b"hellohello");
        let skip = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9];
        let frames = [&zstd[..], &skip, &zstd, &skip].concat();
        assert_eq!(read(&frames).expect("valid"), b"hellohello");
        for cut in 3..gzip.len() {
            assert!(read(&gzip[..cut]).is_err(), "gzip cut at {cut}");
        }
        for cut in 4..zstd.len() {
            assert!(read(&zstd[..cut]).is_err(), "zstd cut at {cut}");
        }
    }
}
