//! The steps of a plan, applied to pixels.

use std::borrow::Cow;
use std::error::Error;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::{PixelTrait, ResizeOptions, Resizer, pixels};
use image::{DynamicImage, ImageBuffer, Pixel};
use tokio_util::sync::CancellationToken;

use super::plan::{Direction, Mode, Operation, Size};
use crate::kind::JobError;

/// 8-bit pixels of one colour type.
type Buffer<C> = ImageBuffer<C, Vec<u8>>;

/// Applies all steps in order, as long as nobody says stop.
///
/// # Errors
/// As [`Size::after`].
pub(super) fn apply<'s>(
    source: &'s DynamicImage,
    operations: &[Operation],
    stop: &CancellationToken,
) -> Result<Cow<'s, DynamicImage>, JobError> {
    let mut image = Cow::Borrowed(source);
    for operation in operations {
        if stop.is_cancelled() {
            return Err(JobError::retry("stopped", "told to stop in the middle of an image"));
        }
        image = Cow::Owned(step(&image, operation)?);
    }
    Ok(image)
}

fn step(image: &DynamicImage, operation: &Operation) -> Result<DynamicImage, JobError> {
    let size = Size::new(image.width(), image.height()).after(operation)?;
    Ok(match *operation {
        Operation::Resize { mode, .. } => resize(image, size, mode)?,
        Operation::Crop { x, y, width, height } => image.crop_imm(x, y, width, height),
        Operation::Rotate { degrees: 90 } => image.rotate90(),
        Operation::Rotate { degrees: 270 } => image.rotate270(),
        Operation::Rotate { .. } => image.rotate180(),
        Operation::Flip { direction: Direction::Horizontal } => image.fliph(),
        Operation::Flip { direction: Direction::Vertical } => image.flipv(),
        Operation::Blur { sigma } => image.fast_blur(sigma),
        Operation::Grayscale {} => image.grayscale(),
    })
}

/// Scales each colour type as what it is. They are written out because the resizer's own choice would bring in its code
/// for every type of pixel there is.
fn resize(image: &DynamicImage, size: Size, mode: Mode) -> Result<DynamicImage, JobError> {
    let resized = match image {
        DynamicImage::ImageLuma8(image) => scale::<pixels::U8, _>(image, size, mode).map(Into::into),
        DynamicImage::ImageLumaA8(image) => scale::<pixels::U8x2, _>(image, size, mode).map(Into::into),
        DynamicImage::ImageRgb8(image) => scale::<pixels::U8x3, _>(image, size, mode).map(Into::into),
        DynamicImage::ImageRgba8(image) => scale::<pixels::U8x4, _>(image, size, mode).map(Into::into),
        other => scale::<pixels::U8x4, _>(&other.to_rgba8(), size, mode).map(Into::into),
    };
    resized.map_err(|error| JobError::fail("invalid_operation", format!("the image cannot be resized: {error}")))
}

/// Scales with Lanczos3, the resizer's default; transparency is taken into account.
fn scale<P, C>(image: &Buffer<C>, size: Size, mode: Mode) -> Result<Buffer<C>, Box<dyn Error>>
where
    P: PixelTrait,
    C: Pixel<Subpixel = u8>,
{
    let options = match mode {
        Mode::Fill => ResizeOptions::new().fit_into_destination(None),
        Mode::Fit | Mode::Exact => ResizeOptions::new(),
    };
    let mut resized = Buffer::<C>::new(size.width, size.height);
    let source = TypedImageRef::<P>::from_buffer(image.width(), image.height(), image)?;
    let mut target = TypedImage::<P>::from_buffer(size.width, size.height, &mut resized)?;
    Resizer::new().resize_typed(&source, &mut target, &options)?;
    drop(target);
    Ok(resized)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GenericImageView, Rgba, RgbaImage};
    use serde_json::{Value, json};

    const RED: Rgba<u8> = Rgba([255, 0, 0, 255]);
    const BLUE: Rgba<u8> = Rgba([0, 0, 255, 255]);

    /// Red on the left, blue on the right, twice as wide as high.
    fn flag() -> DynamicImage {
        RgbaImage::from_fn(40, 20, |x, _| if x < 20 { RED } else { BLUE }).into()
    }

    fn transformed(image: &DynamicImage, operations: Value) -> DynamicImage {
        let operations: Vec<Operation> = serde_json::from_value(operations).expect("operations");
        apply(image, &operations, &CancellationToken::new()).expect("works").into_owned()
    }

    #[test]
    fn no_steps_change_nothing() {
        assert_eq!(transformed(&flag(), json!([])), flag());
    }

    #[test]
    fn steps_follow_each_other() {
        let image = transformed(
            &flag(),
            json!([
                {"op": "crop", "x": 10, "y": 0, "width": 20, "height": 20},
                {"op": "rotate", "degrees": 90},
                {"op": "flip", "direction": "vertical"},
                {"op": "resize", "width": 10, "height": 30, "mode": "exact"},
            ]),
        );
        // Red was left, so it is on top after the turn, and below after the flip.
        assert_eq!(image.dimensions(), (10, 30));
        assert_eq!((image.get_pixel(5, 2), image.get_pixel(5, 27)), (BLUE, RED));
    }

    #[test]
    fn fill_cuts_evenly_and_exact_distorts() {
        let fill = transformed(&flag(), json!([{"op": "resize", "width": 20, "height": 20, "mode": "fill"}]));
        let exact = transformed(&flag(), json!([{"op": "resize", "width": 20, "height": 20, "mode": "exact"}]));
        for image in [fill, exact] {
            assert_eq!(image.dimensions(), (20, 20));
            assert_eq!((image.get_pixel(2, 10), image.get_pixel(17, 10)), (RED, BLUE));
        }
        // A third of a picture in three colours is its middle.
        let thirds = RgbaImage::from_fn(60, 20, |x, _| if (20..40).contains(&x) { RED } else { BLUE }).into();
        let middle = transformed(&thirds, json!([{"op": "resize", "width": 10, "height": 10, "mode": "fill"}]));
        for Rgba([r, g, b, _]) in [middle.get_pixel(1, 5), middle.get_pixel(8, 5)] {
            assert!(r > 240 && g < 15 && b < 15, "{r} {g} {b}");
        }
    }

    #[test]
    fn what_cannot_be_seen_does_not_bleed() {
        let clear = Rgba([0, 255, 0, 0]);
        let image = RgbaImage::from_fn(40, 40, |x, _| if x < 20 { RED } else { clear }).into();
        let small = transformed(&image, json!([{"op": "resize", "width": 3}]));
        let edge = small.get_pixel(1, 1);
        assert!(edge[1] < 8 && edge[3] > 0 && edge[3] < 255, "{edge:?}");
    }

    #[test]
    fn blur_and_grayscale_do_what_they_say() {
        let blurred = transformed(&flag(), json!([{"op": "blur", "sigma": 3}])).get_pixel(20, 10);
        assert!(blurred[0] > 50 && blurred[2] > 50, "{blurred:?}");
        let gray = transformed(&flag(), json!([{"op": "grayscale"}])).get_pixel(5, 5);
        assert!(gray[0] == gray[1] && gray[1] == gray[2]);
    }

    #[test]
    fn nothing_is_done_after_a_stop() {
        let stop = CancellationToken::new();
        stop.cancel();
        let operations = vec![Operation::Grayscale {}];
        assert!(apply(&flag(), &operations, &stop).is_err());
    }
}
