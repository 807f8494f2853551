#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::redact_entry::rule_file(data));
