//! Samples kept, and the tables made of them.

use crate::variant::{Role, Variant};
use crate::workload::{Sample, Workload};

/// All samples: rows are workloads, columns are variants.
pub struct Results<'a> {
    workloads: &'a [Workload],
    columns: Vec<(&'a str, Role)>,
    cells: Vec<Vec<Vec<Sample>>>,
}

impl<'a> Results<'a> {
    /// None yet.
    pub fn new(workloads: &'a [Workload], variants: &'a [Variant<'_>]) -> Self {
        let columns: Vec<_> = variants
            .iter()
            .map(|variant| (variant.name.as_str(), variant.role))
            .collect();
        Self {
            workloads,
            cells: vec![vec![Vec::new(); columns.len()]; workloads.len()],
            columns,
        }
    }

    /// Keeps one, if there is one.
    pub fn add(&mut self, row: usize, column: usize, sample: Option<Sample>) {
        self.cells[row][column].extend(sample);
    }

    /// Markdown tables: rates, ratios, and the fsyncs.
    pub fn render(&self) -> String {
        let mut text = self.rates();
        text.push('\n');
        text += &self.ratios();
        text.push('\n');
        text += &self.syncs();
        text
    }

    fn rates(&self) -> String {
        let mut text = self.heading("median");
        for (workload, cells) in self.workloads.iter().zip(&self.cells) {
            text += &format!("| {}, {} |", workload.name(), workload.unit());
            for cell in cells {
                if cell.is_empty() {
                    text += " – |";
                    continue;
                }
                let rate = workload.rate(median_of(cell, |sample| sample.calls));
                text += &format!(" {rate:.0} |");
            }
            text.push('\n');
        }
        text += &self.spread();
        text
    }

    /// How far the rounds lie apart where they do most.
    fn spread(&self) -> String {
        let mut worst = (0.0, String::new());
        for (workload, cells) in self.workloads.iter().zip(&self.cells) {
            for (cell, (name, _)) in cells.iter().zip(&self.columns) {
                let middle = median_of(cell, |sample| sample.calls);
                for sample in cell {
                    let off = (sample.calls / middle - 1.0).abs() * 100.0;
                    if off > worst.0 {
                        worst = (off, format!("{} on “{name}”", workload.name()));
                    }
                }
            }
        }
        match worst {
            (0.0, _) => String::new(),
            (off, place) => {
                format!("\nFarthest from its median, by {off:.0} %, was a round of {place}.\n")
            }
        }
    }

    /// Each sealed variant's speed over that of what it is compared with.
    fn ratios(&self) -> String {
        let against = [(Role::Gocryptfs, "gocryptfs"), (Role::NoGrate, "no grate")];
        let mut pairs = Vec::new();
        for (role, word) in against {
            let Some(base) = self.column(role) else {
                continue;
            };
            for (column, (name, role)) in self.columns.iter().enumerate() {
                if *role == Role::Sealed {
                    pairs.push((column, base, format!("{name} ÷ {word}")));
                }
            }
        }
        let mut text = heading("ratio of speeds", pairs.iter().map(|pair| pair.2.as_str()));
        for (workload, cells) in self.workloads.iter().zip(&self.cells) {
            text += &format!("| {} |", workload.name());
            for (column, base, _) in &pairs {
                let time = |column: usize| median_of(&cells[column], |sample| sample.calls);
                text += &format!(" {:.2} |", time(*base) / time(*column));
            }
            text.push('\n');
        }
        text
    }

    fn syncs(&self) -> String {
        let mut text = self.heading("fsync afterwards, not counted above");
        let rows = self.workloads.iter().zip(&self.cells);
        for (workload, cells) in rows.filter(|(workload, _)| workload.syncs()) {
            text += &format!("| {}, ms |", workload.name());
            for cell in cells {
                text += &format!(" {:.1} |", median_of(cell, |sample| sample.sync) / 1e6);
            }
            text.push('\n');
        }
        text
    }

    fn column(&self, role: Role) -> Option<usize> {
        self.columns.iter().position(|column| column.1 == role)
    }

    fn heading(&self, first: &str) -> String {
        heading(first, self.columns.iter().map(|column| column.0))
    }
}

fn heading<'a>(first: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut text = format!("| {first} |");
    let mut rule = "|---|".to_owned();
    for name in names {
        text += &format!(" {name} |");
        rule += "--:|";
    }
    format!("{text}\n{rule}\n")
}

fn median_of(samples: &[Sample], what: impl Fn(&Sample) -> f64) -> f64 {
    median(&samples.iter().map(what).collect::<Vec<_>>())
}

/// The middle value, or the mean of the two in the middle; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
