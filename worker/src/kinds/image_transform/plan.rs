//! What is to be done to an image, and how large it gets by it: known, and refused, before a pixel is decoded.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::JobError;

/// The longest side that an operation makes, in pixels: what a WebP file can hold.
pub(super) const MAX_SIDE: u32 = 16_383;

/// The most pixels that an image may have, at any step. An image of so many takes 400 MB of memory.
pub(super) const MAX_PIXELS: u64 = 100_000_000;

/// Width and height, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: u32,
    pub(super) height: u32,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Operation {
    /// Scales it (Lanczos).
    Resize {
        /// Pixels; with `fit`, one of `width` and `height` is enough.
        #[serde(default)]
        #[schemars(with = "u32", range(min = 1, max = 16_383))]
        width: Option<u32>,
        /// Pixels.
        #[serde(default)]
        #[schemars(with = "u32", range(min = 1, max = 16_383))]
        height: Option<u32>,
        /// What happens to its proportions.
        #[serde(default)]
        mode: Mode,
        /// Whether `fit` makes small images larger, too.
        #[serde(default = "yes")]
        enlarge: bool,
    },
    /// Cuts a part out, which must lie within.
    Crop {
        /// Pixels from the left.
        x: u32,
        /// Pixels from the top.
        y: u32,
        /// Pixels.
        #[schemars(range(min = 1))]
        width: u32,
        /// Pixels.
        #[schemars(range(min = 1))]
        height: u32,
    },
    /// Turns it clockwise.
    Rotate {
        /// By how much.
        #[schemars(extend("enum" = [90, 180, 270]))]
        degrees: u16,
    },
    /// Mirrors it.
    Flip {
        /// Which way.
        direction: Direction,
    },
    /// Blurs it.
    Blur {
        /// The standard deviation, in pixels.
        #[schemars(range(min = 0.1, max = 100.0))]
        sigma: f32,
    },
    /// Takes the colours away.
    Grayscale {},
}

/// What happens to the proportions of an image that is scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// They stay: the largest that fits within width and height.
    #[default]
    Fit,
    /// They stay, and width and height are filled: what stands out is cut off evenly.
    Fill,
    /// They become those of width and height.
    Exact,
}

/// Which way an image is mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Direction {
    /// Left becomes right.
    Horizontal,
    /// Top becomes bottom.
    Vertical,
}

fn yes() -> bool {
    true
}

impl Size {
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// How large it is after all of `operations`.
    pub(super) fn after_all(self, operations: &[Operation]) -> Result<Size, JobError> {
        operations.iter().try_fold(self, Size::after)
    }

    /// How large it is after `operation`.
    ///
    /// # Errors
    /// `invalid_operation` or `image_too_large` where that cannot be done to an image of this size.
    pub(super) fn after(self, operation: &Operation) -> Result<Size, JobError> {
        match *operation {
            Operation::Resize { width, height, mode, enlarge } => self.resized(width, height, mode, enlarge)?.bounded(),
            Operation::Crop { x, y, width, height } => {
                let within = |start: u32, length: u32, all: u32| {
                    length > 0 && start.checked_add(length).is_some_and(|end| end <= all)
                };
                if within(x, width, self.width) && within(y, height, self.height) {
                    return Ok(Size { width, height });
                }
                let Size { width: whole, height: tall } = self;
                let message =
                    format!("a crop of {width}×{height} at {x},{y} is not within the {whole}×{tall} there are");
                Err(JobError::fail("invalid_operation", message))
            }
            Operation::Rotate { degrees: 90 | 270 } => Ok(Size { width: self.height, height: self.width }),
            Operation::Rotate { degrees: 180 } => Ok(self),
            Operation::Rotate { degrees } => Err(JobError::fail(
                "invalid_operation",
                format!("an image is rotated by 90, 180 or 270, not {degrees}"),
            )),
            Operation::Flip { .. } | Operation::Blur { .. } | Operation::Grayscale {} => Ok(self),
        }
    }

    fn resized(self, width: Option<u32>, height: Option<u32>, mode: Mode, enlarge: bool) -> Result<Size, JobError> {
        let wish = match (width, height, mode) {
            (Some(width), Some(height), Mode::Fill | Mode::Exact) => return Ok(Size { width, height }),
            (Some(width), Some(height), Mode::Fit) => {
                self.scale(width, self.width).min(self.scale(height, self.height))
            }
            (Some(width), None, Mode::Fit) => self.scale(width, self.width),
            (None, Some(height), Mode::Fit) => self.scale(height, self.height),
            (_, _, Mode::Fit) => {
                return Err(JobError::fail("invalid_operation", "a resize has a width, a height or both"));
            }
            (_, _, Mode::Fill | Mode::Exact) => {
                return Err(JobError::fail(
                    "invalid_operation",
                    "a resize with `fill` or `exact` has a width and a height",
                ));
            }
        };
        let factor = if enlarge { wish } else { wish.min(1.0) };
        let side = |length: u32, bound: Option<u32>| {
            // Casting saturates, so what is far too large stays too large.
            let scaled = (f64::from(length) * factor).round() as u32;
            scaled.clamp(1, bound.unwrap_or(u32::MAX).max(1))
        };
        Ok(Size { width: side(self.width, width), height: side(self.height, height) })
    }

    fn scale(self, wish: u32, is: u32) -> f64 {
        f64::from(wish) / f64::from(is)
    }

    fn bounded(self) -> Result<Size, JobError> {
        let Size { width, height } = self;
        if (1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height) {
            return self.affordable();
        }
        let message = format!("{width}×{height} would be larger than {MAX_SIDE} pixels to a side, or nothing");
        Err(JobError::fail("image_too_large", message))
    }

    /// Whether an image of this size can be held in memory.
    ///
    /// # Errors
    /// `image_too_large` if not.
    pub(super) fn affordable(self) -> Result<Size, JobError> {
        let Size { width, height } = self;
        if u64::from(width) * u64::from(height) <= MAX_PIXELS {
            return Ok(self);
        }
        let message = format!("{width}×{height} is more than the {MAX_PIXELS} pixels that an image may have");
        Err(JobError::fail("image_too_large", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn operation(value: Value) -> Operation {
        serde_json::from_value(value).expect("an operation")
    }

    fn after(size: (u32, u32), value: Value) -> Result<(u32, u32), String> {
        let after = Size::new(size.0, size.1).after(&operation(value));
        after.map(|size| (size.width, size.height)).map_err(|error| match error {
            JobError::Failed(failure) => failure.code,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn resizing_keeps_proportions_unless_exact() {
        for (size, wish, expected) in [
            ((400, 300), json!({"op": "resize", "width": 200, "height": 200}), (200, 150)),
            ((300, 400), json!({"op": "resize", "width": 200, "height": 200, "mode": "fit"}), (150, 200)),
            ((400, 300), json!({"op": "resize", "width": 200}), (200, 150)),
            ((400, 300), json!({"op": "resize", "height": 30}), (40, 30)),
            ((40, 30), json!({"op": "resize", "width": 400}), (400, 300)),
            ((40, 30), json!({"op": "resize", "width": 400, "enlarge": false}), (40, 30)),
            ((1000, 1), json!({"op": "resize", "width": 10}), (10, 1)),
            ((3, 2), json!({"op": "resize", "width": 100, "height": 67}), (100, 67)),
            ((400, 300), json!({"op": "resize", "width": 50, "height": 50, "mode": "fill"}), (50, 50)),
            ((400, 300), json!({"op": "resize", "width": 7, "height": 900, "mode": "exact"}), (7, 900)),
        ] {
            assert_eq!(after(size, wish.clone()), Ok(expected), "{size:?} {wish}");
        }
    }

    #[test]
    fn other_steps_have_the_size_one_expects() {
        for (wish, expected) in [
            (json!({"op": "crop", "x": 300, "y": 0, "width": 100, "height": 300}), (100, 300)),
            (json!({"op": "rotate", "degrees": 90}), (300, 400)),
            (json!({"op": "rotate", "degrees": 180}), (400, 300)),
            (json!({"op": "rotate", "degrees": 270}), (300, 400)),
            (json!({"op": "flip", "direction": "vertical"}), (400, 300)),
            (json!({"op": "blur", "sigma": 2}), (400, 300)),
            (json!({"op": "grayscale"}), (400, 300)),
        ] {
            assert_eq!(after((400, 300), wish.clone()), Ok(expected), "{wish}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (size, wish, code) in [
            ((400, 300), json!({"op": "crop", "x": 301, "y": 0, "width": 100, "height": 300}), "invalid_operation"),
            ((400, 300), json!({"op": "crop", "x": u32::MAX, "y": 0, "width": 1, "height": 1}), "invalid_operation"),
            ((400, 300), json!({"op": "crop", "x": 0, "y": 0, "width": 0, "height": 1}), "invalid_operation"),
            ((400, 300), json!({"op": "rotate", "degrees": 45}), "invalid_operation"),
            ((400, 300), json!({"op": "resize"}), "invalid_operation"),
            ((400, 300), json!({"op": "resize", "width": 10, "mode": "fill"}), "invalid_operation"),
            ((400, 300), json!({"op": "resize", "height": 10, "mode": "exact"}), "invalid_operation"),
            ((1, 1000), json!({"op": "resize", "width": 100}), "image_too_large"),
            ((1, 4_000_000_000), json!({"op": "resize", "width": 16_383}), "image_too_large"),
            (
                (400, 300),
                json!({"op": "resize", "width": 16_000, "height": 16_000, "mode": "exact"}),
                "image_too_large",
            ),
            ((400, 300), json!({"op": "resize", "width": 0, "height": 0, "mode": "exact"}), "image_too_large"),
        ] {
            assert_eq!(after(size, wish.clone()), Err(code.to_owned()), "{size:?} {wish}");
        }
    }

    fn any_operation() -> impl Strategy<Value = Operation> {
        let side = || proptest::option::of(0u32..=20_000);
        let mode = prop_oneof![Just(Mode::Fit), Just(Mode::Fill), Just(Mode::Exact)];
        prop_oneof![
            (side(), side(), mode, any::<bool>()).prop_map(|(width, height, mode, enlarge)| Operation::Resize {
                width,
                height,
                mode,
                enlarge
            }),
            (0u32..3000, 0u32..3000, 0u32..3000, 0u32..3000).prop_map(|(x, y, width, height)| Operation::Crop {
                x,
                y,
                width,
                height
            }),
            prop_oneof![Just(90), Just(180), Just(270), any::<u16>()].prop_map(|degrees| Operation::Rotate { degrees }),
        ]
    }

    proptest! {
        #[test]
        fn no_step_leaves_the_limits(
            width in 1u32..=65_535, height in 1u32..=1_500, steps in proptest::collection::vec(any_operation(), 0..6),
        ) {
            let mut size = Size::new(width, height);
            for step in &steps {
                let Ok(next) = size.after(step) else { return Ok(()) };
                prop_assert!(next.width >= 1 && next.height >= 1);
                prop_assert!(u64::from(next.width) * u64::from(next.height) <= MAX_PIXELS);
                if let Operation::Resize { width, height, .. } = step {
                    prop_assert!(next.width <= width.unwrap_or(MAX_SIDE) && next.height <= height.unwrap_or(MAX_SIDE));
                }
                size = next;
            }
        }
    }
}
