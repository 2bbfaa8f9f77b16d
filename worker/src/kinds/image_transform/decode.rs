//! From a file to pixels, refusing what is no image, is broken, or would not fit in memory.

use std::io::{self, Cursor};

use image::error::LimitErrorKind;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::jpeg;
use super::plan::{MAX_PIXELS, Size};
use crate::kind::JobError;

/// What a decoder may allocate: room for the pixels at 16 bits to a channel.
const MAX_ALLOCATION: u64 = MAX_PIXELS * 8;

/// An image whose size is known and whose pixels are still in the file.
pub(super) struct Undecoded<D> {
    decoder: D,
    orientation: image::metadata::Orientation,
    /// As it is shown, that is, turned as its metadata say.
    pub(super) size: Size,
}

/// Reads the head of a file: what kind of image it is, and how large.
///
/// # Errors
/// `unsupported_image`, `broken_image`, `image_too_large`.
pub(super) fn open(file: &[u8]) -> Result<Undecoded<impl ImageDecoder + '_>, JobError> {
    let unsupported = || JobError::fail("unsupported_image", "the file is not a JPEG, PNG or WebP image");
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|_| unsupported())?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOCATION);
    reader.limits(limits);
    match reader.format() {
        Some(ImageFormat::Png | ImageFormat::WebP) => {}
        Some(ImageFormat::Jpeg) if jpeg::is_complete(file) => {}
        Some(ImageFormat::Jpeg) => {
            return Err(JobError::fail("broken_image", "the JPEG file breaks off before its end"));
        }
        _ => return Err(unsupported()),
    }
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    Size::new(width, height).affordable()?;
    let orientation = decoder.orientation().map_err(failed)?;
    let turned = orientation.to_exif() > 4;
    let size = if turned { Size::new(height, width) } else { Size::new(width, height) };
    Ok(Undecoded { decoder, orientation, size })
}

impl<D: ImageDecoder> Undecoded<D> {
    /// Decodes it: turned as its metadata say, 8 bits to a channel.
    ///
    /// # Errors
    /// As [`open`].
    pub(super) fn decode(self) -> Result<DynamicImage, JobError> {
        let mut image = DynamicImage::from_decoder(self.decoder).map_err(failed)?;
        image.apply_orientation(self.orientation);
        Ok(match image {
            DynamicImage::ImageLuma8(_)
            | DynamicImage::ImageLumaA8(_)
            | DynamicImage::ImageRgb8(_)
            | DynamicImage::ImageRgba8(_) => image,
            other if other.color().has_alpha() => DynamicImage::ImageRgba8(other.into_rgba8()),
            other => DynamicImage::ImageRgb8(other.into_rgb8()),
        })
    }
}

fn failed(error: ImageError) -> JobError {
    match &error {
        ImageError::Unsupported(_) => JobError::fail("unsupported_image", error),
        ImageError::Limits(limit) if !matches!(limit.kind(), LimitErrorKind::Unsupported { .. }) => {
            JobError::fail("image_too_large", error)
        }
        ImageError::IoError(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
            JobError::fail("broken_image", "the file breaks off before the end of the image")
        }
        _ => JobError::fail("broken_image", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;
    use image::metadata::Orientation;

    fn picture() -> DynamicImage {
        let image = RgbImage::from_fn(32, 16, |x, y| image::Rgb([x as u8 * 8, y as u8 * 16, 100]));
        DynamicImage::from(image)
    }

    fn written(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        image.write_to(&mut file, format).expect("to memory");
        file.into_inner()
    }

    fn code(file: &[u8]) -> String {
        match open(file).and_then(Undecoded::decode).expect_err("refused") {
            JobError::Failed(failure) => failure.code,
            other => format!("{other:?}"),
        }
    }

    /// The file with an EXIF segment that holds nothing but an orientation.
    fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0";
        let exif = [b"\xff\xe1\0\x22Exif\0\0".as_slice(), tiff, &[orientation], b"\0\0\0\0\0\0"].concat();
        [&jpeg[..2], &exif, &jpeg[2..]].concat()
    }

    #[test]
    fn the_three_formats_are_read() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let file = written(&picture(), format);
            let opened = open(&file).expect("opens");
            assert_eq!(opened.size, Size::new(32, 16));
            let image = opened.decode().expect("decodes");
            assert_eq!((image.width(), image.height()), (32, 16), "{format:?}");
        }
        let deep = DynamicImage::ImageRgba16(picture().to_rgba16());
        let image = open(&written(&deep, ImageFormat::Png)).and_then(Undecoded::decode).expect("decodes");
        assert_eq!(image, DynamicImage::ImageRgba8(picture().to_rgba8()));
    }

    #[test]
    fn an_image_is_turned_as_its_metadata_say() {
        let plain = written(&picture(), ImageFormat::Jpeg);
        let upright = open(&plain).and_then(Undecoded::decode).expect("decodes");
        for orientation in 1..=8 {
            let file = with_orientation(&plain, orientation);
            let opened = open(&file).expect("opens");
            let mut expected = upright.clone();
            expected.apply_orientation(Orientation::from_exif(orientation).expect("one of eight"));
            assert_eq!(opened.size, Size::new(expected.width(), expected.height()), "{orientation}");
            assert_eq!(opened.decode().expect("decodes"), expected, "{orientation}");
        }
        let sixth = with_orientation(&plain, 6);
        assert_eq!(open(&sixth).expect("opens").size, Size::new(16, 32));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for file in [b"".as_slice(), b"hello", b"GIF89a\x01\0\x01\0", b"%PDF-1.7", b"<svg/>"] {
            assert_eq!(code(file), "unsupported_image");
        }
    }

    #[test]
    fn a_file_that_breaks_off_is_broken() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let file = written(&picture(), format);
            assert_eq!(code(&file[..file.len() * 3 / 4]), "broken_image", "{format:?}");
            assert_eq!(code(&file[..20]), "broken_image", "{format:?}");
        }
    }

    #[test]
    fn a_giant_is_refused_by_its_head() {
        let mut png = written(&picture(), ImageFormat::Png);
        // The head of a PNG: 8 bytes of signature, then length, type, width, height, …, checksum.
        png[16..24].copy_from_slice(&[0, 0, 0x80, 0, 0, 0, 0x80, 0]);
        let checksum = crc32(&png[12..29]).to_be_bytes();
        png[29..33].copy_from_slice(&checksum);
        assert_eq!(code(&png), "image_too_large");
        let mut jpeg = written(&picture(), ImageFormat::Jpeg);
        let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame header");
        jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
        assert_eq!(code(&jpeg), "image_too_large");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
        };
        !bytes.iter().fold(!0, step)
    }
}
