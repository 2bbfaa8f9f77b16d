//! The section `[egress]`: what `http.call` may reach.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What `http.call` may reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressConfig {
    /// Networks that are reachable although they are private or special; `OFFLOAD_EGRESS_ALLOW`, joined by commas.
    pub allow: Vec<IpNet>,
    /// The longest response body that is kept, in bytes.
    pub max_response_bytes: u64,
}
