//! What of the grate needs no cage: the file of limits, the arithmetic of rates and counts, and the
//! decisions on all calls.

pub mod bucket;
pub mod calls;
pub mod counter;
pub mod limits;
