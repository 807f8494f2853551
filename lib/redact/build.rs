//! Makes tables of the catalogue: what each family looks for, and how the beginnings of that can
//! look, so that nothing of it has to be compiled before something like it is seen.
#![allow(dead_code)] // The crate's modules have more than is used here.

#[path = "src/automaton.rs"]
mod automaton;
#[path = "src/byteset.rs"]
mod byteset;
#[path = "src/groups.rs"]
mod groups;
#[path = "src/run.rs"]
mod run;
#[path = "src/shape.rs"]
mod shape;

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use automaton::{Automaton, Reach, RegexDfa, parse};
use byteset::ByteSet;
use groups::{Group, Look};
use regex_syntax::hir::{Hir, HirKind, Repetition};
use run::{KINDS, Run};
use serde::Deserialize;
use shape::Shape;

/// Buckets that the shapes of patterns that are looked for together are put into.
const BUCKETS: usize = 128;

/// Patterns that are looked for together: those with each kind of run, those without one, and those
/// that go by entropy, which are rarely asked for.
const CLASSES: usize = KINDS + 2;

/// A file of the catalogue.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Family {
    about: String,
    group: String,
    source: Option<String>,
    pattern: Vec<Pattern>,
    /// Read by the tests.
    examples: toml::Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pattern {
    regex: Option<String>,
    field: Option<String>,
    value: Option<String>,
    check: Option<String>,
    #[serde(default)]
    text: bool,
    mark: Option<Mark>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    inside: String,
    before: String,
    most: usize,
}

impl Pattern {
    /// Its regex. One of a field is that of a name with the vendor's in it, what stands between a
    /// name and a value in configurations, code and logs, and the value, whole.
    fn regex(&self) -> Result<String, String> {
        match (&self.regex, &self.field, &self.value) {
            (Some(regex), None, None) => Ok(regex.clone()),
            (None, Some(field), Some(value)) => Ok(format!(
                r#"(?i:{field})[\w.\- \t]{{0,25}}['"`\s\]\\]{{0,4}}[=:>|?,]{{1,4}}[`'"\s=\\]{{0,5}}(?<secret>(?i:{value}))(?:[`'"\s;,}})&<\\]|\z)"#
            )),
            _ => Err("a pattern has a regex, or a field and its value".to_owned()),
        }
    }
}

/// A regex with no more repetitions than the places that shapes look at: as to those, the same.
fn head(hir: &Hir) -> Hir {
    let most = shape::SPAN as u32 + 2;
    match hir.kind() {
        HirKind::Repetition(repetition) => {
            let sub = head(&repetition.sub);
            let is_bounded = sub.properties().minimum_len().is_some_and(|len| len > 0);
            let (min, max) = match is_bounded {
                true => (
                    repetition.min.min(most),
                    Some(repetition.max.unwrap_or(most).min(most)),
                ),
                false => (repetition.min, repetition.max),
            };
            Hir::repetition(Repetition {
                min,
                max,
                greedy: repetition.greedy,
                sub: Box::new(sub),
            })
        }
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(head).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(head).collect()),
        HirKind::Capture(capture) => head(&capture.sub),
        _ => hir.clone(),
    }
}

fn shapes(regex: &str) -> Result<Vec<Shape>, String> {
    let hir = parse(regex).map_err(|error| error.to_string())?;
    // What is repeated within repetitions may make the head the larger one.
    let dfa = RegexDfa::new(&head(&hir), Reach::Here).or_else(|_| RegexDfa::new(&hir, Reach::Here));
    let dfa = dfa.map_err(|error| error.to_string())?;
    Ok(shape::shapes(&Automaton::Regex(Box::new(dfa))))
}

/// The bytes of a class as it is written in a regex.
fn class(text: &str) -> Result<ByteSet, String> {
    let hir = parse(&format!("[{text}]")).map_err(|error| error.to_string())?;
    let HirKind::Class(class) = hir.kind() else {
        return Err(format!("{text} is one byte"));
    };
    let bytes = match class {
        regex_syntax::hir::Class::Bytes(bytes) => bytes.clone(),
        regex_syntax::hir::Class::Unicode(_) => return Err(format!("{text} is not ASCII")),
    };
    let ranges = bytes.ranges().iter();
    Ok(ranges
        .flat_map(|range| range.start()..=range.end())
        .collect())
}

fn set(set: &ByteSet) -> String {
    format!("ByteSet::from_words({:?})", set.words())
}

fn written(shape: &Shape) -> String {
    let places: Vec<_> = shape.places.iter().map(set).collect();
    format!(
        "Shape {{ before: {}, places: [{}] }}",
        set(&shape.before),
        places.join(", ")
    )
}

fn written_group(group: &Group) -> String {
    let places: Vec<_> = group.places.iter().map(set).collect();
    format!(
        "ShapeGroup {{ after_word: {}, after_other: {}, places: [{}] }}",
        group.after_word,
        group.after_other,
        places.join(", ")
    )
}

/// A shape of a pattern, and how it is looked for.
#[derive(Clone, Copy)]
struct Sought {
    shape: Shape,
    marked: bool,
    class: usize,
}

/// Shapes that are looked for as one.
struct Bucket {
    shape: Shape,
    marked: bool,
    /// As numbers of all shapes.
    members: Vec<usize>,
}

/// Puts shapes of one class into buckets.
fn buckets(all: &[Sought], class: usize) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for (number, sought) in all
        .iter()
        .enumerate()
        .filter(|(_, sought)| sought.class == class)
    {
        let Sought { shape, marked, .. } = *sought;
        let same = |bucket: &&mut Bucket| (bucket.shape, bucket.marked) == (shape, marked);
        match buckets.iter_mut().find(same) {
            Some(bucket) => bucket.members.push(number),
            None => buckets.push(Bucket {
                shape,
                marked,
                members: vec![number],
            }),
        }
    }
    let union = |a: &Bucket, b: &Bucket| Bucket {
        shape: a.shape.union(&b.shape),
        marked: a.marked,
        members: [&a.members[..], &b.members].concat(),
    };
    let cost = |a: &Bucket, b: &Bucket| {
        let apart = if a.marked == b.marked { 0.0 } else { 1e9 };
        apart + a.shape.union(&b.shape).rate() - a.shape.rate() - b.shape.rate()
    };
    shape::reduce(&mut buckets, BUCKETS, union, cost);
    buckets
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=catalogue");
    println!("cargo::rerun-if-changed=src/sample.log");
    for module in ["automaton", "byteset", "groups", "run", "shape"] {
        println!("cargo::rerun-if-changed=src/{module}.rs");
    }
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir("catalogue")? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str());
        names.push(name.ok_or("a name that is not UTF-8")?.to_owned());
    }
    names.sort_unstable();
    let (mut families, mut patterns) = (String::new(), Vec::new());
    let (mut all, mut count) = (Vec::new(), 0);
    for name in &names {
        let failed = |error: &dyn std::fmt::Display| format!("catalogue/{name}.toml: {error}");
        let text = fs::read_to_string(format!("catalogue/{name}.toml"))?;
        let family: Family = toml::from_str(&text).map_err(|error| failed(&error))?;
        let _ = family.examples;
        let first = count;
        for pattern in &family.pattern {
            let regex = pattern.regex().map_err(|error| failed(&error))?;
            let lead = pattern.mark.as_ref().map_or(&regex, |mark| &mark.inside);
            let found = shapes(lead).map_err(|error| failed(&format!("{regex}: {error}")))?;
            let mark = match &pattern.mark {
                None => "None".to_owned(),
                Some(mark) => format!(
                    "Some(Mark {{ inside: {:?}, before: {}, most: {} }})",
                    mark.inside,
                    set(&class(&mark.before).map_err(|error| failed(&error))?),
                    mark.most
                ),
            };
            let check = match &pattern.check {
                None => "None".to_owned(),
                Some(check) => format!("Some(check::{check})"),
            };
            let hir = parse(&regex).map_err(|error| failed(&error))?;
            let shortest = hir.properties().minimum_len().unwrap_or(0);
            let has_secret = regex.contains("(?<secret>");
            let run = run::of(&hir).map_err(|error| failed(&error))?;
            let run = run.filter(|_| family.group != "entropy");
            let class = match (run, &family.group[..]) {
                (Some(run), _) => run.kind as usize,
                (None, "entropy") => KINDS + 1,
                (None, _) => KINDS,
            };
            let from = all.len();
            all.extend(found.into_iter().map(|shape| Sought {
                shape,
                marked: pattern.mark.is_some(),
                class,
            }));
            let run = match run {
                None => "None".to_owned(),
                Some(Run { kind, reach }) => {
                    format!("Some(Run {{ kind: Kind::{kind:?}, reach: {reach} }})")
                }
            };
            let is_text = pattern.text || pattern.field.is_some();
            patterns.push((
                format!("regex: {regex:?}, check: {check}, text_only: {is_text}, mark: {mark}, shortest: {shortest}, has_secret: {has_secret}, run: {run}, class: {class}"),
                from..all.len(),
            ));
            count += 1;
        }
        writeln!(
            families,
            "    Family {{ name: {name:?}, group: Group::{}, about: {:?}, source: {:?}, first: {first}, end: {count} }},",
            match &family.group[..] {
                "tokens" => "Tokens",
                "keys" => "Keys",
                "personal" => "Personal",
                "entropy" => "Entropy",
                other => return Err(failed(&format!("there is no group {other}")).into()),
            },
            family.about,
            family.source,
        )?;
    }
    let (mut of, mut made) = (vec![0; all.len()], String::new());
    for class in 0..CLASSES {
        let buckets = buckets(&all, class);
        for (index, bucket) in buckets.iter().enumerate() {
            bucket.members.iter().for_each(|&member| of[member] = index);
        }
        let groups = |look| {
            let groups = groups::groups(buckets.iter().map(|bucket| &bucket.shape), look);
            let mut groups: Vec<_> = groups.iter().map(written_group).collect();
            groups.resize(groups::GROUPS, "NO_GROUP".to_owned());
            groups.join(", ")
        };
        writeln!(
            made,
            "    MadeGroups {{ bytes: [{}], halves: [{}] }},",
            groups(Look::Bytes),
            groups(Look::Halves)
        )?;
    }
    let mut text = format!(
        "static FAMILIES: [Family; {}] = [\n{families}];\n\nstatic PATTERNS: [BuiltinPattern; {count}] = [\n",
        names.len()
    );
    for (fields, shapes) in patterns {
        let shapes: Vec<_> = shapes
            .map(|number| format!("({}, {})", of[number], written(&all[number].shape)))
            .collect();
        writeln!(
            text,
            "    BuiltinPattern {{ {fields}, shapes: &[{}] }},",
            shapes.join(", ")
        )?;
    }
    text += "];\n\n#[allow(dead_code)]\nconst NO_GROUP: ShapeGroup = ShapeGroup { after_word: false, after_other: false, \
        places: [ByteSet::EMPTY; _] };\n";
    writeln!(
        text,
        "\nstatic MADE_GROUPS: [MadeGroups; {CLASSES}] = [\n{made}];"
    )?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("catalogue.rs"), text)?;
    Ok(())
}
