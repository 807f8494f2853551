//! `keys recover`: what is left of a damaged file.

use std::fs::File;

use anyhow::{Result, anyhow, bail};
use keys::recover::{self, Filling, RecoverError, Report};
use keys::sources::Wanted;

use super::options::{KeyOptions, RecoverOptions};
use super::progress::Progress;
use super::{
    OWNER_ONLY, Outcome, cannot_read, cannot_write, commit, is_standard, lost, name, open_output,
    ring,
};

pub fn recover(keys: &KeyOptions, options: &RecoverOptions) -> Result<Outcome> {
    let files = &options.transfer;
    let path = name(&files.input);
    if is_standard(&files.input) {
        bail!("{path}: cannot be recovered from, for it can be read but once; name a file");
    }
    let ring = ring(keys, || Wanted::All)?;
    let opened = File::open(&files.input).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|error| cannot_read(&files.input, &error))?;
    if !metadata.is_file() {
        bail!("{path}: not a regular file");
    }
    let output = open_output(files, OWNER_ONLY)?;
    let progress = Progress::new(metadata.len());
    let mut filling = Filling {
        sink: output,
        fill: options.fill,
    };
    let search = options.search.bytes;
    let report = recover::recover(&ring, &file, &mut filling, search, |len| {
        progress.advance(len)
    });
    drop(progress);
    let report = report.map_err(|error| match error {
        RecoverError::Write(error) => cannot_write(files, &error),
        error => anyhow!("{path}: {error}"),
    })?;
    commit(filling.sink, files)?;

    for line in lines(&report) {
        if is_standard(&files.output) {
            eprintln!("{path}: {line}");
        } else {
            println!("{path}: {line}");
        }
    }
    Ok(match report.is_complete() {
        true => Outcome::Success,
        false => Outcome::Failure,
    })
}

/// What there is to say.
pub fn lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if report.header_damaged {
        lines.push("the header is damaged; the file was read all the same".to_owned());
    }
    if report.shifts > 0 {
        let shifts = report.shifts;
        lines.push(format!("bytes were put in or taken out, {shifts} time(s)"));
    }
    lines.extend(report.lost.iter().map(lost));
    if report.end_is_lost {
        lines.push("lost: the end, and with it how long the file was".to_owned());
    }
    for stale in &report.stale {
        let len = stale.end - stale.start;
        lines.push(format!(
            "stale: {len} bytes from offset {} are of an older version that was put back",
            stale.start
        ));
    }
    for unproven in &report.unproven {
        let len = unproven.end - unproven.start;
        lines.push(format!(
            "unproven: of {len} bytes from offset {} some may be of an older version, for what \
             would tell is damaged",
            unproven.start
        ));
    }
    if report.newest_is_lost {
        lines.push(
            "unproven: a superblock or a part of the log is lost; any of it may be of an older version"
                .to_owned(),
        );
    }
    let lost: u64 = report.lost.iter().map(|lost| lost.end - lost.start).sum();
    lines.push(format!("recovered {} bytes", report.size - lost));
    lines
}
