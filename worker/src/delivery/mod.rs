//! From the broker to the starter: deliveries arrive, wait in their lanes, and are settled when their jobs need them no
//! more.

mod arrivals;
mod consumer;
mod inbox;
mod lanes;
mod receipt;

pub(crate) use consumer::receive;
pub(crate) use inbox::{Inbox, Ticket};
pub(crate) use receipt::Receipt;
