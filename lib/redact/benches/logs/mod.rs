//! Logs to measure with.

/// Lines as a service writes them. A dirty one has a secret of one of a few common kinds.
pub fn log(len: usize, dirty_per_mille: u64) -> Vec<u8> {
    use std::fmt::Write;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut log = String::with_capacity(len + 512);
    let (mut second, mut line) = (0u64, 0u64);
    while log.len() < len {
        line += 1;
        second += random.below(3) / 2;
        let _ = write!(
            log,
            "2026-11-24T{:02}:{:02}:{:02}.{:06}Z {:<5} {}::{} ",
            second / 3600 % 24,
            second / 60 % 60,
            second % 60,
            random.below(1_000_000),
            random.pick(&["INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR"]),
            random.pick(&["server", "storage", "scheduler", "billing"]),
            random.pick(&["http", "worker", "cache", "session", "queue"]),
        );
        let _ = match random.below(5) {
            0 => write!(
                log,
                "request completed method={} path=/api/v1/items/{}/parts status={} bytes={} latency_ms={}.{}",
                random.pick(&["GET", "POST", "PUT"]),
                random.below(100_000),
                random.pick(&["200", "201", "304", "404", "500"]),
                random.below(1 << 20),
                random.below(900),
                random.below(10),
            ),
            1 => write!(
                log,
                "job finished job_id={:08x}-{:04x}-4{:03x}-a{:03x}-{:012x} attempt={} queue=default-{}",
                random.below(1 << 32),
                random.below(1 << 16),
                random.below(1 << 12),
                random.below(1 << 12),
                random.below(1 << 48),
                random.below(5),
                random.below(10),
            ),
            2 => write!(
                log,
                "{{\"event\":\"cache.evict\",\"keys\":{},\"size\":{},\"ratio\":0.{:03},\"shard\":\"s-{}\"}}",
                random.below(1000),
                random.below(1 << 30),
                random.below(1000),
                random.below(64),
            ),
            3 => write!(
                log,
                "connection to backend-{}.internal timed out after {} ms, retrying in {} s (attempt {}/5)",
                random.below(20),
                random.below(5000),
                random.below(30),
                random.below(5),
            ),
            _ => write!(
                log,
                "The scheduler moved {} tasks from node {} to node {}; the backlog is now {} entries long",
                random.below(500),
                random.below(40),
                random.below(40),
                random.below(90_000),
            ),
        };
        if random.below(1000) < dirty_per_mille {
            let token = random_token(line, 36);
            let _ = match random.below(6) {
                0 => write!(log, " password={}", &token[..12]),
                1 => write!(log, " user={}@mail.example.org", &token[..8]),
                2 => write!(log, " auth=ghp_{token}"),
                3 => write!(
                    log,
                    " peer=10.{}.3.{}",
                    random.below(256),
                    random.below(256)
                ),
                4 => write!(log, " header=\"Authorization: Bearer {token}\""),
                _ => write!(log, " card=4111-1111-1111-1111"),
            };
        }
        log.push('\n');
    }
    log.truncate(len);
    log.into_bytes()
}

/// Letters and digits, the same for the same seed.
pub fn random_token(seed: u64, len: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = Random(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) | 1);
    let tokens = (0..len).map(|_| char::from(ALPHABET[random.below(62) as usize]));
    tokens.collect()
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound
    }

    fn pick<'p>(&mut self, of: &[&'p str]) -> &'p str {
        of[self.below(of.len() as u64) as usize]
    }
}
