//! What the fuzz targets call, shared with the ordinary tests.

#[path = "../../lib/sealed/tests/it/entry.rs"]
pub mod sealed_entry;

#[path = "../../lib/sealed/tests/wire/entry.rs"]
pub mod wire_entry;

#[path = "../../keys/tests/entry/mod.rs"]
pub mod keys_entry;

#[path = "../../lib/redact/tests/it/entry.rs"]
pub mod redact_entry;

#[path = "../../lib/redact/tests/it/reference.rs"]
pub mod reference;
