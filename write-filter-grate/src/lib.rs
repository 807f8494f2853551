//! What of the grate needs no cage: its decisions on all calls, so that they can be held against
//! what the runtime serves.

pub mod calls;
