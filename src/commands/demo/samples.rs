//! The files that the program carries, from `samples/`.

/// A file to upload.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    /// Its name, for people.
    pub(super) name: &'static str,
    /// Its media type.
    pub(super) content_type: &'static str,
    /// Its content.
    pub(super) content: &'static [u8],
}

macro_rules! sample {
    ($name:literal, $content_type:literal) => {
        Sample {
            name: $name,
            content_type: $content_type,
            content: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/samples/", $name)),
        }
    };
}

/// Rows for a table.
pub(super) const TABLE: Sample = sample!("orders.csv", "text/csv");

/// The first one lies on its side, and its EXIF orientation says so.
const PHOTOS: [Sample; 8] = [
    sample!("valley-portrait.jpg", "image/jpeg"),
    sample!("alps-morning.jpg", "image/jpeg"),
    sample!("dunes-noon.jpg", "image/jpeg"),
    sample!("fjord-night.jpg", "image/jpeg"),
    sample!("hills-spring.jpg", "image/jpeg"),
    sample!("lake-evening.jpg", "image/jpeg"),
    sample!("planet.png", "image/png"),
    sample!("chart.png", "image/png"),
];

/// A photo for each number, in turns.
pub(super) fn photo(number: usize) -> Sample {
    PHOTOS[number % PHOTOS.len()]
}
