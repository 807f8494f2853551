//! Side-by-side benchmarks. Every workload is run by the same program in a cage: without a grate,
//! under crypt-grate, and on a gocryptfs mount; and by this process itself, as a baseline.
//! Connections are measured through stunnel instead. The variants take turns within a round. Nothing here passes or fails by a time.

#![forbid(unsafe_code)]

mod calls;
mod install;
mod machine;
mod mount;
mod native;
mod network;
mod redaction;
mod results;
mod variant;
mod workload;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use install::Install;
use results::Results;
use workload::Workload;

/// Measure file I/O and system calls side by side and print Markdown tables.
#[derive(Parser)]
#[command(name = "benches", version)]
struct Options {
    /// A fast look: one round and 32 MiB, unless said otherwise
    #[arg(long)]
    quick: bool,

    /// Times that each measurement is repeated; medians are shown [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// Size of the file read and written [default: 256]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=16384))]
    size: Option<u64>,

    /// Files alone: no system calls, connections and redaction
    #[arg(long)]
    files: bool,

    /// Connections alone
    #[arg(long, conflicts_with = "files")]
    connections: bool,

    /// Another built copy of the repository, an older one say: calls through its grate are
    /// measured beside this one's
    #[arg(long, value_name = "DIR")]
    before: Option<PathBuf>,

    /// Write the tables to FILE, too
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let (quick_rounds, quick_size) = if options.quick { (1, 32) } else { (5, 256) };
    let rounds = options.rounds.unwrap_or(quick_rounds);
    let size = options.size.unwrap_or(quick_size) << 20;

    let install = Install::find()?;
    let mut text = machine::describe();
    let bench = install.bench_dir()?;
    let (variants, left_out) = variant::prepare(&install, bench.path())?;
    let workloads = match options.connections {
        true => Vec::new(),
        false => Workload::all(size),
    };
    let mut results = Results::new(&workloads, &variants);
    let mut network = (!options.files).then(|| network::Results::new(options.quick));
    let mut others = match options.files || options.connections {
        true => None,
        false => Some((
            calls::Results::new(options.before.as_deref()),
            redaction::Results::new(&install, options.quick)?,
        )),
    };
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for (row, workload) in workloads.iter().enumerate() {
            for (column, variant) in variants.iter().enumerate() {
                let sample = variant
                    .run(workload)
                    .with_context(|| format!("{} on “{}”", workload.name(), variant.name))?;
                results.add(row, column, sample);
            }
        }
        if let Some(network) = &mut network {
            network.round(&install, bench.path())?;
        }
        if let Some((calls, redaction)) = &mut others {
            calls.round(&install, options.quick)?;
            redaction.round(&install, bench.path())?;
        }
    }

    text += &format!(
        "- file of {} MiB; medians of {rounds} round{}, the variants taking turns; page cache warm\n",
        size >> 20,
        if rounds == 1 { "" } else { "s" },
    );
    if let Some(reason) = left_out {
        text += &format!("- {reason}\n");
    }
    if !options.connections {
        text += &format!("\n{}", results.render());
    }
    let others = others.map(|(calls, redaction)| (calls.render(), redaction.render()));
    let (calls, redaction) = others.unzip();
    for table in [calls, network.map(|network| network.render()), redaction] {
        text.extend(table.map(|table| format!("\n{table}")));
    }
    print!("{text}");
    if let Some(file) = &options.out {
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
