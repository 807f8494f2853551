//! Tests of the crate from outside.

mod exact;
mod generate;
mod reference;
