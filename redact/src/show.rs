//! Answers about rules, and about what they find.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use redact::{Builtin, Place, RuleSet, Verdict};

use crate::options::Rules;
use crate::rules;

/// Says whether files of rules are right.
pub fn check(options: &Rules, files: &[PathBuf]) -> Result<ExitCode> {
    let set = rules::from_files(options, files)?.build();
    let (rules, filter) = (set.rules().len(), set.filter());
    let memory = filter.memory() >> 10;
    writeln!(io::stdout(), "{rules} rules, {memory} KiB compiled")?;
    Ok(ExitCode::SUCCESS)
}

/// Says what would be found in files.
pub fn explain(options: &Rules, files: &[PathBuf]) -> Result<ExitCode> {
    let set = rules::all(options)?;
    if files.is_empty() {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text)?;
        explain_one(&set, "-", &text)?;
    }
    for path in files {
        let name = path.display().to_string();
        let text = fs::read(path).with_context(|| format!("{name}: cannot be read"))?;
        explain_one(&set, &name, &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn explain_one(set: &RuleSet, name: &str, text: &[u8]) -> Result<()> {
    let mut stream = set.filter_of(&set.at(Place::Stdout)).stream();
    let mut events = Vec::new();
    let (mut out, mut rest, mut begins) = (Vec::new(), text, 0);
    // A stream does not get past what its rule denies: another one goes on behind it.
    loop {
        let verdict = stream.push(rest, &mut out);
        if verdict == Verdict::Passed {
            stream.finish(&mut out);
        }
        let found = stream.take_events();
        let end = found
            .last()
            .map(|event| (event.offset + event.len) as usize);
        events.extend(
            found
                .into_iter()
                .map(|event| (begins + event.offset as usize, event)),
        );
        match (verdict, end) {
            (Verdict::Denied(_) | Verdict::Dropped(_), Some(end)) => {
                rest = &rest[end..];
                begins += end;
                stream = stream.under(&stream.filter().clone());
            }
            _ => break,
        }
    }
    events.sort_by_key(|(offset, _)| *offset);
    let (mut line, mut begin, mut at) = (1, 0, 0);
    let mut out = io::stdout().lock();
    for (offset, event) in events {
        for (index, _) in text[at..offset]
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
        {
            line += 1;
            begin = at + index + 1;
        }
        at = offset;
        let rule = &set.rules()[event.rule];
        let why = match rule.name().parse::<Builtin>() {
            Ok(builtin) => format!(" ({}: {})", builtin.group().name(), builtin.about()),
            Err(_) => String::new(),
        };
        writeln!(
            out,
            "{name}:{line}:{}: {} bytes, {} by {}{why}",
            offset - begin + 1,
            event.len,
            event.action,
            rule.name(),
        )?;
    }
    Ok(())
}

/// Says what is known.
pub fn list(names: &[String]) -> Result<ExitCode> {
    let mut families = Vec::new();
    for name in names {
        families.extend(Builtin::named(name)?);
    }
    if names.is_empty() {
        families.extend(Builtin::all());
    }
    families.sort_by_key(|family| (family.group().name(), family.name()));
    families.dedup();
    let mut out = io::stdout().lock();
    for family in families {
        let (group, name) = (family.group().name(), family.name());
        writeln!(out, "{group:<9} {name:<20} {}", family.about())?;
    }
    Ok(ExitCode::SUCCESS)
}
