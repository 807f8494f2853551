//! Clean logs of many kinds pass as they are: no word, number or hash in them is taken for a secret.

use redact::{Action, Builtin, Pattern, Verdict};

use crate::exact;
use crate::generate;
use crate::logs;

/// Numbers that look random: a xorshift generator.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, most: u64) -> u64 {
        (self.roll() >> 11) % most
    }

    fn word(&mut self) -> &'static str {
        const WORDS: &str = "request response cache queue worker scheduler session user account \
            store policy auth provider connect timeout retry twitter \
            discord linear square dropbox travis sentry facebook heroku snyk okta sumo asana plaid \
            lob kraken datadog fastly mailgun connection pool shard replica leader follower commit \
            index segment compaction snapshot checkpoint metrics trace span context deadline";
        let count = WORDS.split_ascii_whitespace().count() as u64;
        let at = self.below(count) as usize;
        WORDS.split_ascii_whitespace().nth(at).unwrap_or_default()
    }

    fn hex(&mut self, len: usize) -> String {
        (0..len)
            .map(|_| char::from(b"0123456789abcdef"[self.below(16) as usize]))
            .collect()
    }

    fn base64(&mut self, len: usize) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        (0..len)
            .map(|_| char::from(ALPHABET[self.below(64) as usize]))
            .collect()
    }

    fn uuid(&mut self) -> String {
        let parts = [8, 4, 4, 4, 12].map(|len| self.hex(len));
        parts.join("-")
    }

    fn time(&mut self) -> String {
        let [day, hour, minute, second] = [28, 24, 60, 60].map(|most| self.below(most));
        let nanos = self.below(1_000_000_000);
        format!(
            "2026-11-{:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z",
            day + 1
        )
    }

    /// A line of a kind.
    fn line(&mut self, kind: usize) -> String {
        let (time, one, other) = (self.time(), self.word(), self.word());
        let (small, large) = (self.below(1000), self.below(1_000_000_000));
        match kind {
            0 => format!(
                "web-{small} - - [24/Nov/2026:04:06:{:02} +0000] \"GET /{one}/{large}?page={small} HTTP/1.1\" 200 {large} \"-\" \"Mozilla/5.0 (X11; Linux x86_64) Chrome/1{small}.0.{small}.0\"",
                small % 60
            ),
            1 => format!(
                "{{\"ts\":\"{time}\",\"level\":\"info\",\"{one}\":\"{other}\",\"id\":\"{}\",\"took_ms\":{small},\"bytes\":{large}}}",
                self.uuid()
            ),
            2 => format!(
                "I1124 04:06:57.{:06} {small} {one}_controller.go:{small}] \"{other} started\" pod=\"kube-system/{one}-{}-x{}\" uid={}",
                large % 1_000_000,
                self.hex(10),
                self.hex(4),
                self.uuid()
            ),
            3 => format!(
                "   Compiling {one}-{other} v{}.{}.{small} (registry+https://example.org/{one})",
                small % 9,
                small % 30
            ),
            4 => format!(
                "\tat org.{one}.{other}.Handler$${small}.invoke({other}.java:{small})\n  std::{one}::{other}<a::b, c0::f1>::call (0x{})",
                self.hex(12)
            ),
            5 => format!("{}  {one}/{other}.tar.gz", self.hex(64)),
            6 => format!("commit {} {one}: {other} of {}", self.hex(40), self.hex(7)),
            7 => self.base64(76),
            8 => format!(
                "{} {one} {other} {}",
                1_700_000_000_000u64 + large,
                1_700_000_000_000_000_000u64 + large * 1_000_003
            ),
            9 => format!(
                "[{small}.{:06}] {one}: {other} irq {small} 0000:{:02x}:00.0 {}:{}",
                large % 1_000_000,
                small % 256,
                self.hex(2),
                self.hex(2)
            ),
            10 => format!(
                "{time} {one}={other} {other}_count={small} {one}_id={large} trace={} span={}",
                self.hex(32),
                self.hex(16)
            ),
            11 => format!(
                "2026-11-24 04 +02 {small} 200 512 4096 {one} {other}: version {}.{small}.{} built 24.11.2026 10:12",
                small % 7,
                large % 100
            ),
            12 => format!(
                "sha256:{} {one}@{other} layer {} of {}, {:.1}%",
                self.hex(64),
                small % 20,
                20,
                small as f64 / 10.0
            ),
            _ => format!(
                "test {one}::{other}::{one}_with_{other} ... ok ({small} ms), {one}, {other}: {one} -> {other}; {other}? {one}"
            ),
        }
    }
}

/// Kinds of logs.
const KINDS: usize = 14;

/// So many bytes of the lines of a kind.
fn log(kind: usize, len: usize) -> String {
    let mut dice = Dice(kind as u64 + 1);
    let mut log = String::new();
    while log.len() < len {
        log += &dice.line(kind);
        log.push('\n');
    }
    log
}

/// All built-ins, each a rule.
fn all_builtins() -> generate::Rules {
    let builtins = Builtin::named("all").unwrap().into_iter();
    let rules: Vec<_> = builtins
        .map(|builtin| (Pattern::Builtin(builtin), Action::Audit))
        .collect();
    generate::rules(&rules, 1 << 16)
}

/// Writes end anywhere, and a regular file is looked at as if it ended there: for that few of the
/// patterns are compiled, and fewer the larger the writes are.
#[test]
fn clean_logs_compile_few_patterns() {
    /// Bytes of each log.
    const LEN: usize = 1 << 20;
    let service = String::from_utf8(logs::log(LEN, 0)).unwrap();
    let mixed: String = (0..KINDS).map(|kind| log(kind, LEN / KINDS)).collect();
    for (name, log, most) in [("service", service, [12, 40]), ("mixed", mixed, [40, 70])] {
        let [large, small] = most.map(|most| [false, true].map(|is_file| (most, is_file)));
        let ways = large.map(|way| (4096, way)).into_iter();
        for (piece, (most, is_file)) in ways.chain(small.map(|way| (100, way))) {
            let filter = all_builtins().set.filter();
            let mut stream = filter.stream();
            let mut out = Vec::new();
            for piece in log.as_bytes().chunks(piece) {
                assert_eq!(stream.push(piece, &mut out), Verdict::Passed);
                if is_file {
                    stream.finish_for_now(&mut out);
                }
            }
            let compiled = filter.compiled();
            println!("{name} {piece} {is_file} {compiled}");
            assert!(
                compiled <= most,
                "{name}, {piece}, {is_file}: {compiled} patterns"
            );
        }
    }
}

#[test]
fn clean_logs_pass_unchanged() {
    /// Bytes of each kind.
    const EACH: usize = 2 << 20;
    let rules = all_builtins();
    let mut wrong = Vec::new();
    for kind in 0..KINDS {
        let log = log(kind, EACH);
        let (_, events) = exact::in_pieces(rules.set.filter().stream(), [log.as_bytes()]);
        wrong.extend(events.into_iter().map(|(rule, offset, len)| {
            let place = offset as usize..(offset + len) as usize;
            let name = Builtin::named("all").unwrap()[rule].name();
            let begin = place.start.saturating_sub(30);
            format!("{kind}, {name}: {}", &log[begin..place.end].escape_debug())
        }));
    }
    let most = KINDS * EACH / (10 << 20);
    assert!(
        wrong.len() <= most,
        "{}: {}",
        wrong.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
}
