//! What the end-to-end tests are made of: roots of their own, runs, and the list of tests.

pub mod fixture;
pub mod manifest;
pub mod scenarios;
pub mod sqlite;
