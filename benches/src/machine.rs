//! What machine this is.

use std::fs;
use std::num::NonZero;
use std::thread;

/// A Markdown list: processor, cores, memory, kernel, and how busy it is now.
pub fn describe() -> String {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    format!(
        "- {}, {cores} core{}, {} GiB of memory\n- Linux {}; load average at the start {}\n",
        field("/proc/cpuinfo", "model name"),
        if cores == 1 { "" } else { "s" },
        memory_gib(),
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim(),
        fs::read_to_string("/proc/loadavg")
            .unwrap_or_default()
            .split(' ')
            .next()
            .unwrap_or_default(),
    )
}

fn memory_gib() -> u64 {
    let kib = field("/proc/meminfo", "MemTotal");
    let kib = kib.trim_end_matches("kB").trim().parse::<u64>();
    kib.unwrap_or_default().div_ceil(1 << 20)
}

/// The value of the first `name: value` line.
fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    value.unwrap_or_else(|| "unknown".to_owned())
}
