//! The file of limits: a line each, `resource NAME VALUE`, under the names that Repy's resource
//! files have.
//!
//! A `#` begins a comment. What is not understood is an error, with its line: a limit that is
//! misspelt must not become none.

use std::fmt;

/// Bytes a second that move one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Into the program, from all that is no socket.
    FileRead,
    /// Out of it, to all that is neither a socket nor one of its standard streams.
    FileWrite,
    /// To its standard streams.
    LogRate,
    /// To sockets whose peer is on another machine.
    NetSend,
    /// From such sockets.
    NetRecv,
    /// To sockets whose peer is on this machine.
    LoopSend,
    /// From such sockets.
    LoopRecv,
    /// Of getrandom.
    Random,
}

/// Things of which there are so many at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Descriptors that are no sockets.
    FilesOpened,
    /// Sockets that listen.
    InSockets,
    /// All other sockets.
    OutSockets,
    /// Threads, of all cages.
    Events,
}

/// Ports of one kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Of streams.
    ConnPort,
    /// Of datagrams.
    MessPort,
}

impl Rate {
    /// All of them.
    pub const ALL: [Self; RATES] = [
        Self::FileRead,
        Self::FileWrite,
        Self::LogRate,
        Self::NetSend,
        Self::NetRecv,
        Self::LoopSend,
        Self::LoopRecv,
        Self::Random,
    ];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        name_of(Resource::Rate(self))
    }
}

impl Count {
    /// All of them.
    pub const ALL: [Self; COUNTS] = [
        Self::FilesOpened,
        Self::InSockets,
        Self::OutSockets,
        Self::Events,
    ];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        name_of(Resource::Count(self))
    }
}

fn name_of(resource: Resource) -> &'static str {
    let mut names = NAMES.iter();
    names
        .find(|(_, named)| *named == resource)
        .map_or("", |(name, _)| name)
}

/// What a line limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Rate(Rate),
    Count(Count),
    Port(Port),
    /// Names of Repy's that no call tells enough of.
    Beyond(&'static str),
}

/// Every name, and what it limits.
const NAMES: &[(&str, Resource)] = &[
    ("fileread", Resource::Rate(Rate::FileRead)),
    ("filewrite", Resource::Rate(Rate::FileWrite)),
    ("lograte", Resource::Rate(Rate::LogRate)),
    ("netsend", Resource::Rate(Rate::NetSend)),
    ("netrecv", Resource::Rate(Rate::NetRecv)),
    ("loopsend", Resource::Rate(Rate::LoopSend)),
    ("looprecv", Resource::Rate(Rate::LoopRecv)),
    ("random", Resource::Rate(Rate::Random)),
    ("filesopened", Resource::Count(Count::FilesOpened)),
    ("insockets", Resource::Count(Count::InSockets)),
    ("outsockets", Resource::Count(Count::OutSockets)),
    ("events", Resource::Count(Count::Events)),
    ("connport", Resource::Port(Port::ConnPort)),
    ("messport", Resource::Port(Port::MessPort)),
    ("cpu", Resource::Beyond("use a control group of the host")),
    ("memory", Resource::Beyond("use the runtime's own limits")),
    ("diskused", Resource::Beyond("use a quota of the host")),
];

/// How many rates, counts and kinds of ports there are.
const RATES: usize = 8;
const COUNTS: usize = 4;
const PORTS: usize = 2;

/// Longest file, and most ranges of ports.
pub const MOST_BYTES: usize = 1 << 20;
const MOST_RANGES: usize = 4096;
/// Largest rate and count: whatever is more is no limit.
const MOST: u64 = 1 << 50;

/// What a file of limits says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    rates: [Option<u64>; RATES],
    counts: [Option<u64>; COUNTS],
    ports: [Option<Ports>; PORTS],
}

/// Ports, as ranges with both their ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// Whether a port is among them.
    pub fn have(&self, port: u16) -> bool {
        self.0
            .iter()
            .any(|&(first, last)| (first..=last).contains(&port))
    }
}

/// What is wrong with a file of limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it, and what to write instead.
    pub what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.what)
    }
}

impl std::error::Error for Wrong {}

impl Limits {
    /// Reads the text of a file. Lines about what `skipped` names limit nothing; they have to be
    /// known names.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &[u8], skipped: &[String]) -> Result<Self, Wrong> {
        let mut limits = Self::default();
        if text.len() > MOST_BYTES {
            let what = format!("the file is longer than {MOST_BYTES} bytes");
            return Err(Wrong { line: 1, what });
        }
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            limits.add(line, skipped).map_err(|what| Wrong {
                line: number + 1,
                what,
            })?;
        }
        Ok(limits)
    }

    /// Adds what a line says, as [`Limits::parse`].
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn add(&mut self, line: &[u8], skipped: &[String]) -> Result<(), String> {
        let line = line.split(|&byte| byte == b'#').next().unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| "this is not text".to_owned())?;
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (name, value) = match words[..] {
            [] => return Ok(()),
            ["resource", name, value] => (name, value),
            ["resource", ..] => {
                return Err("a line has a name and one value: resource filewrite 50000".to_owned());
            }
            [first, ..] => {
                let first = shown(first);
                return Err(format!(
                    "{first} is no beginning of a line: resource NAME VALUE"
                ));
            }
        };
        let resource = resource(name).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            let name = shown(name);
            format!("{name} is no resource; there are {}", names.join(", "))
        })?;
        if skipped.iter().any(|skip| skip == name) {
            return Ok(());
        }
        let once = |place: &mut Option<u64>, number: u64| match place.replace(number) {
            None => Ok(()),
            Some(_) => Err(format!("{name} stands here for the second time")),
        };
        match resource {
            Resource::Rate(rate) => once(&mut self.rates[rate as usize], number(name, value, 1)?),
            Resource::Count(count) => {
                // The program itself is one.
                let least = u64::from(count == Count::Events);
                once(
                    &mut self.counts[count as usize],
                    number(name, value, least)?,
                )
            }
            Resource::Port(port) => {
                let range = range(name, value)?;
                let ranges = &mut self.ports[port as usize].get_or_insert_default().0;
                if ranges.len() >= MOST_RANGES {
                    return Err(format!("there are more than {MOST_RANGES} lines of {name}"));
                }
                ranges.push(range);
                Ok(())
            }
            Resource::Beyond(instead) => Err(format!(
                "{name} is nothing that this grate can limit: {instead}, and pass --skip {name}"
            )),
        }
    }

    /// Bytes a second, if they are limited.
    pub fn rate(&self, rate: Rate) -> Option<u64> {
        self.rates[rate as usize]
    }

    /// How many there may be, if that is limited.
    pub fn count(&self, count: Count) -> Option<u64> {
        self.counts[count as usize]
    }

    /// The ports that may be used, if not all.
    pub fn ports(&self, port: Port) -> Option<&Ports> {
        self.ports[port as usize].as_ref()
    }
}

/// Whether there is a resource of that name.
pub fn is_name(name: &str) -> bool {
    resource(name).is_some()
}

fn resource(name: &str) -> Option<Resource> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, resource)| *resource)
}

/// A word of the file in a message: no more than a line of it, and nothing that a terminal obeys.
fn shown(word: &str) -> String {
    const LONG: usize = 40;
    word.chars()
        .take(LONG)
        .flat_map(char::escape_debug)
        .collect()
}

fn number(name: &str, value: &str, least: u64) -> Result<u64, String> {
    decimal(value)
        .filter(|number| (least..=MOST).contains(number))
        .ok_or_else(|| {
            let value = shown(value);
            format!("{value} is no value of {name}: a whole number from {least} to {MOST}")
        })
}

/// Digits alone: no sign.
fn decimal(text: &str) -> Option<u64> {
    let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| all_digits)
}

fn range(name: &str, value: &str) -> Result<(u16, u16), String> {
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    let port = |text| decimal(text).and_then(|port| u16::try_from(port).ok());
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(format!(
            "{} is no value of {name}: a port, or two as in 8000-8010",
            shown(value)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Limits, Wrong> {
        Limits::parse(text.as_bytes(), &[])
    }

    fn wrong(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_as_people_have_it() {
        let text = "# limits\n\nresource filewrite 50000   # a second\n\
            \tresource\tevents 10\r\nresource connport 12345\nresource connport 8000-8010\n\
            resource filesopened 0";
        let limits = parse(text).unwrap();
        assert_eq!(limits.rate(Rate::FileWrite), Some(50000));
        assert_eq!(limits.rate(Rate::FileRead), None);
        assert_eq!(limits.count(Count::Events), Some(10));
        assert_eq!(limits.count(Count::FilesOpened), Some(0));
        assert_eq!(limits.ports(Port::MessPort), None);
        let ports = limits.ports(Port::ConnPort).unwrap();
        let have = [12345, 8000, 8005, 8010].map(|port| ports.have(port));
        assert_eq!(have, [true; 4]);
        assert!(![0, 7999, 8011, 12344].iter().any(|&port| ports.have(port)));
        assert_eq!(parse(""), Ok(Limits::default()));
    }

    #[test]
    fn every_name_is_read_into_its_own_place() {
        for (name, resource) in NAMES {
            let value = 7;
            let limits = parse(&format!("resource {name} {value}"));
            match resource {
                Resource::Rate(rate) => assert_eq!(limits.unwrap().rate(*rate), Some(value)),
                Resource::Count(count) => assert_eq!(limits.unwrap().count(*count), Some(value)),
                Resource::Port(port) => {
                    let limits = limits.unwrap();
                    let ports = limits.ports(*port);
                    assert!(ports.is_some_and(|ports| ports.have(7) && !ports.have(8)));
                }
                Resource::Beyond(_) => {
                    assert!(limits.unwrap_err().what.contains("--skip"));
                    let text = format!("resource {name} anything");
                    let skipped = Limits::parse(text.as_bytes(), &[(*name).to_owned()]);
                    assert_eq!(skipped, Ok(Limits::default()));
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, start) in [
            ("resource filewrite", "1: a line has a name and one value"),
            ("\nresource filewrite 1 2", "2: a line has a name"),
            ("call open allow", "1: call is no beginning of a line"),
            (
                "resource filewrit 5",
                "1: filewrit is no resource; there are fileread",
            ),
            ("resource filewrite 0", "1: 0 is no value of filewrite"),
            ("resource filewrite -1", "1: -1 is no value"),
            ("resource filewrite +1", "1: +1 is no value"),
            ("resource filewrite 1e3", "1: 1e3 is no value"),
            ("resource filewrite 99999999999999999999", "1: 9999"),
            ("resource events 0", "1: 0 is no value of events"),
            (
                "resource connport 70000",
                "1: 70000 is no value of connport",
            ),
            ("resource connport 9-8", "1: 9-8 is no value"),
            ("resource connport 1-2-3", "1: 1-2-3 is no value"),
            ("resource connport -", "1: - is no value"),
            (
                "resource random 1\nresource random 1",
                "2: random stands here",
            ),
            (
                "resource cpu 0.1",
                "1: cpu is nothing that this grate can limit",
            ),
            ("RESOURCE random 1", "1: RESOURCE is no beginning"),
        ] {
            assert!(wrong(text).starts_with(start), "{text:?}: {}", wrong(text));
        }
        assert!(Limits::parse(b"resource \xff 1", &[]).is_err());
    }

    #[test]
    fn nothing_of_a_hostile_file_reaches_the_terminal() {
        let line = format!("resource \u{1b}[2J{} 1", "x".repeat(10_000));
        let told = wrong(&line);
        assert!(!told.contains('\u{1b}') && told.len() < 500, "{told}");
        assert!(Limits::parse(&vec![b'#'; MOST_BYTES + 1], &[]).is_err());
        let many = "resource connport 1\n".repeat(MOST_RANGES + 1);
        assert!(wrong(&many).contains("more than"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Limits::parse(&text, &[]);
        }

        #[test]
        fn any_words_are_read_or_refused_with_a_line_that_is_there(
            lines in prop::collection::vec("(resource|call|#)? ?(filewrite|events|connport|cpu|x)? ?[0-9+.-]{0,22} ?#?", 0..20)
        ) {
            let text = lines.join("\n");
            if let Err(wrong) = parse(&text) {
                prop_assert!(wrong.line >= 1 && wrong.line <= lines.len().max(1));
                // It is that line which is wrong, with what stands before it.
                let before: Vec<&str> = text.lines().take(wrong.line - 1).collect();
                prop_assert!(parse(&before.join("\n")).is_ok());
            }
        }

        #[test]
        fn what_is_written_is_what_is_read(rate in 1u64..=MOST, count in 0u64..=MOST, first: u16, more: u16, port: u16) {
            let last = first.saturating_add(more);
            let text = format!("resource netsend {rate}\nresource insockets {count}\nresource messport {first}-{last}");
            let limits = parse(&text).unwrap();
            prop_assert_eq!(limits.rate(Rate::NetSend), Some(rate));
            prop_assert_eq!(limits.count(Count::InSockets), Some(count));
            prop_assert_eq!(limits.ports(Port::MessPort).unwrap().have(port), first <= port && port <= last);
        }
    }
}
