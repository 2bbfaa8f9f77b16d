//! Files to upload.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// A picture: red on its left half, blue on its right.
pub(crate) fn picture(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let pixel = |x, _| if x < width / 2 { Rgb([220, 30, 30]) } else { Rgb([30, 30, 220]) };
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(RgbImage::from_fn(width, height, pixel)).write_to(&mut bytes, format).expect("encoded");
    bytes.into_inner()
}

/// A CSV file with a head and so many rows.
pub(crate) fn orders(rows: usize) -> String {
    let mut csv = "id,customer,total,placed\r\n".to_owned();
    for id in 1..=rows {
        csv += &format!("{id},\"Grüße, \"\"{id}\"\"\",{id}.25,2026-11-{:02}\r\n", id % 28 + 1);
    }
    csv
}
