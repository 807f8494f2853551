//! Kills of the runtime at random moments, while programs write.

/// Kills in one test: so many, or what `E2E_KILLS` says, for a long search.
pub(super) fn count(usual: u64) -> u64 {
    variable("E2E_KILLS").unwrap_or(usual)
}

/// What the random choices of a test start from; `E2E_SEED` names another.
pub(super) fn seed() -> u64 {
    variable("E2E_SEED").unwrap_or(1)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
