//! Whether a JPEG file is all there. The decoder forgives a file that breaks off and paints the rest grey; a job that
//! calls that a success would hide an upload that failed.

const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// Whether the end of the image comes before the end of the file. What follows it does not matter: some cameras append
/// things.
pub(super) fn is_complete(file: &[u8]) -> bool {
    find_end(file).is_some()
}

/// Walks from marker to marker, so that an `ff d9` within a segment, as of an embedded thumbnail, ends nothing.
fn find_end(file: &[u8]) -> Option<()> {
    let mut at = 2;
    loop {
        // Between segments there may be any number of fill bytes.
        while *file.get(at)? == 0xff {
            at += 1;
        }
        let marker = file[at];
        at += 1;
        if marker == END_OF_IMAGE {
            return Some(());
        }
        let length = u16::from_be_bytes([*file.get(at)?, *file.get(at + 1)?]);
        at += usize::from(length);
        if marker == START_OF_SCAN {
            at += entropy_coded(file.get(at..)?)?;
        }
    }
}

/// How many bytes of image data there are until the next marker. In image data `ff` is followed by 0, or by the number
/// of a restart.
fn entropy_coded(data: &[u8]) -> Option<usize> {
    data.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, ImageFormat};
    use proptest::prelude::*;
    use std::io::Cursor;

    fn jpeg() -> Vec<u8> {
        let image = image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8 * 3, y as u8 * 3, (x ^ y) as u8]));
        let mut file = Cursor::new(Vec::new());
        DynamicImage::from(image).write_to(&mut file, ImageFormat::Jpeg).expect("to memory");
        file.into_inner()
    }

    #[test]
    fn a_whole_file_is_complete() {
        let file = jpeg();
        assert!(is_complete(&file));
        assert!(is_complete(&[file.as_slice(), b"trailing bytes"].concat()));
    }

    #[test]
    fn a_file_that_breaks_off_is_not() {
        let file = jpeg();
        for length in 0..file.len() {
            assert!(!is_complete(&file[..length]), "{length} of {}", file.len());
        }
    }

    #[test]
    fn the_end_of_an_embedded_thumbnail_is_not_the_end() {
        let file = jpeg();
        let thumbnail = [&[0xff, 0xe1, 0, 6][..], &[0xff, 0xd9, 0xff, 0xd9]].concat();
        let with = [&file[..2], &thumbnail, &file[2..]].concat();
        assert!(is_complete(&with));
        assert!(!is_complete(&with[..with.len() - 2]));
    }

    proptest! {
        #[test]
        fn garbage_does_no_harm(file in proptest::collection::vec(any::<u8>(), 0..200)) {
            is_complete(&file);
        }
    }
}
