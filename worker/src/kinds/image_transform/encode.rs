//! From pixels to a file. No metadata is written: what a camera noted (place and time among it) ends here.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ImageError, Rgb, RgbImage};
use schemars::JsonSchema;
use serde::Deserialize;

use super::plan::{MAX_SIDE, Size};
use crate::kind::JobError;

/// The longest side of a JPEG file, in pixels.
const MAX_JPEG_SIDE: u32 = 65_535;

/// The format of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    /// Small, for photographs. Without transparency: what shows through is white.
    Jpeg,
    /// Exact.
    Png,
    /// Smaller than JPEG, with transparency.
    Webp,
}

impl Format {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Format::Jpeg => "image/jpeg",
            Format::Png => "image/png",
            Format::Webp => "image/webp",
        }
    }

    /// The quality unless one is given.
    const fn quality(self) -> u8 {
        match self {
            Format::Jpeg => 82,
            Format::Png | Format::Webp => 80,
        }
    }

    /// Whether a file of this format can hold an image of this size.
    ///
    /// # Errors
    /// `image_too_large` if not.
    pub(super) fn holds(self, size: Size) -> Result<(), JobError> {
        let longest = match self {
            Format::Jpeg => MAX_JPEG_SIDE,
            Format::Png => u32::MAX,
            Format::Webp => MAX_SIDE,
        };
        let Size { width, height } = size;
        if width.max(height) <= longest {
            return Ok(());
        }
        let message = format!("{width}×{height} does not fit in {}: at most {longest} to a side", self.content_type());
        Err(JobError::fail("image_too_large", message))
    }
}

/// Writes an image, with a quality of 1 to 100 where the format has one.
///
/// # Errors
/// `encoding_failed`.
pub(super) fn encode(image: &DynamicImage, format: Format, quality: Option<u8>) -> Result<Vec<u8>, JobError> {
    let quality = quality.unwrap_or(format.quality());
    let mut file = Vec::new();
    match format {
        Format::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut file, quality);
            if image.color().has_alpha() {
                DynamicImage::ImageRgb8(on_white(image)).write_with_encoder(encoder).map_err(failed)?;
            } else {
                image.write_with_encoder(encoder).map_err(failed)?;
            }
        }
        Format::Png => {
            let encoder = PngEncoder::new_with_quality(&mut file, CompressionType::Default, FilterType::Adaptive);
            image.write_with_encoder(encoder).map_err(failed)?;
        }
        Format::Webp => file = webp(image, quality)?,
    }
    Ok(file)
}

fn failed(error: ImageError) -> JobError {
    JobError::fail("encoding_failed", error)
}

fn on_white(image: &DynamicImage) -> RgbImage {
    let pixels = image.to_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b, alpha] = pixels.get_pixel(x, y).0;
        let over = |channel: u8| {
            let (channel, alpha) = (u32::from(channel), u32::from(alpha));
            ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8
        };
        Rgb([over(r), over(g), over(b)])
    })
}

fn webp(image: &DynamicImage, quality: u8) -> Result<Vec<u8>, JobError> {
    let (width, height) = (image.width(), image.height());
    let encode = |encoder: webp::Encoder<'_>| {
        let written = encoder.encode_simple(false, f32::from(quality));
        written.map(|memory| memory.to_vec())
    };
    let written = if image.color().has_alpha() {
        encode(webp::Encoder::from_rgba(&image.to_rgba8(), width, height))
    } else {
        encode(webp::Encoder::from_rgb(&image.to_rgb8(), width, height))
    };
    written.map_err(|error| JobError::fail("encoding_failed", format!("libwebp refuses the image: {error:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GenericImageView, ImageFormat, Rgba, RgbaImage};

    fn picture() -> DynamicImage {
        RgbaImage::from_fn(64, 32, |x, y| Rgba([x as u8 * 4, y as u8 * 8, 90, if x < 32 { 0 } else { 255 }])).into()
    }

    fn reread(file: &[u8]) -> DynamicImage {
        image::load_from_memory(file).expect("readable")
    }

    #[test]
    fn each_format_is_what_it_says() {
        for (format, expected) in
            [(Format::Jpeg, ImageFormat::Jpeg), (Format::Png, ImageFormat::Png), (Format::Webp, ImageFormat::WebP)]
        {
            for image in
                [picture(), picture().to_rgb8().into(), picture().to_luma8().into(), picture().to_luma_alpha8().into()]
            {
                let file = encode(&image, format, None).expect("encodes");
                assert_eq!(image::guess_format(&file).expect("known"), expected);
                assert_eq!(reread(&file).dimensions(), (64, 32));
            }
            assert_eq!(expected.to_mime_type(), format.content_type());
        }
    }

    #[test]
    fn png_is_exact_and_webp_keeps_transparency() {
        assert_eq!(reread(&encode(&picture(), Format::Png, None).expect("encodes")), picture());
        let webp = reread(&encode(&picture(), Format::Webp, None).expect("encodes"));
        assert_eq!((webp.get_pixel(4, 4)[3], webp.get_pixel(60, 4)[3]), (0, 255));
    }

    #[test]
    fn in_a_jpeg_what_shows_through_is_white() {
        let jpeg = reread(&encode(&picture(), Format::Jpeg, Some(100)).expect("encodes"));
        let Rgba([r, g, b, _]) = jpeg.get_pixel(8, 16);
        assert!(r > 250 && g > 250 && b > 250, "{r} {g} {b}");
        let Rgba([r, g, b, _]) = jpeg.get_pixel(56, 16);
        assert!(r.abs_diff(224) < 6 && g.abs_diff(128) < 6 && b.abs_diff(90) < 6, "{r} {g} {b}");
    }

    #[test]
    fn less_quality_is_a_smaller_file() {
        for format in [Format::Jpeg, Format::Webp] {
            let size = |quality| encode(&picture(), format, Some(quality)).expect("encodes").len();
            assert!(size(10) < size(95), "{format:?}");
        }
    }

    #[test]
    fn each_format_has_its_longest_side() {
        let holds = |format: Format, side| format.holds(Size::new(1, side)).is_ok();
        assert_eq!((holds(Format::Webp, 16_383), holds(Format::Webp, 16_384)), (true, false));
        assert_eq!((holds(Format::Jpeg, 65_535), holds(Format::Jpeg, 65_536)), (true, false));
        assert!(holds(Format::Png, 1_000_000));
    }
}
