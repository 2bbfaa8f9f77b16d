//! The section `[imports]`: what `table.import` may write.

use serde::{Deserialize, Serialize};

/// What `table.import` may write.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportsConfig {
    /// The schemas that tables may be in; the first is the one where a payload names none.
    pub schemas: Vec<String>,
}
