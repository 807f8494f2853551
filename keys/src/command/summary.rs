//! How many files were what, in a line.

use std::fmt;

/// Counts with what they count. Those of nothing are left out, but for the first.
#[derive(Debug)]
pub struct Summary(Vec<(&'static str, u64)>);

impl Summary {
    /// What may be counted, in the order to tell it in.
    pub fn of(whats: &[&'static str]) -> Self {
        Self(whats.iter().map(|&what| (what, 0)).collect())
    }

    /// One more of that.
    pub fn add(&mut self, what: &'static str) {
        self.add_many(what, 1);
    }

    /// So many more of that.
    pub fn add_many(&mut self, what: &'static str, count: usize) {
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, known)) => *known += count as u64,
            None => self.0.push((what, count as u64)),
        }
    }

    /// How many there are of that.
    pub fn count(&self, what: &str) -> u64 {
        let known = self.0.iter().find(|(known, _)| *known == what);
        known.map_or(0, |(_, count)| *count)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, others) = self.0.split_first().ok_or(fmt::Error)?;
        write!(f, "{} {}", first.1, first.0)?;
        for (what, count) in others.iter().filter(|(_, count)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_out_but_for_the_first() {
        let mut summary = Summary::of(&["whole", "bad"]);
        summary.add("not sealed");
        summary.add("not sealed");
        assert_eq!(summary.to_string(), "0 whole, 2 not sealed");
    }
}
