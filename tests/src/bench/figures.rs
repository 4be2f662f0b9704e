//! Samples, and the table that they make.

use std::time::Duration;

/// What a figure counts, and whether more of it is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Requests a second: the only one of which more is better.
    PerSecond,
    Seconds,
    Milliseconds,
    /// Server CPU time of one request.
    Microseconds,
    /// Server CPU seconds for a gigabyte.
    SecondsPerGigabyte,
    Megabytes,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "req/s",
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us CPU/req",
            Self::SecondsPerGigabyte => "s CPU/GB",
            Self::Megabytes => "MB",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond | Self::Microseconds => format!("{value:.0}"),
            Self::Megabytes => format!("{value:.1}"),
            Self::Seconds | Self::Milliseconds | Self::SecondsPerGigabyte => format!("{value:.2}"),
        }
    }

    /// How many times better `mine` is than `other`.
    fn ratio(self, mine: f64, other: f64) -> f64 {
        match self {
            Self::PerSecond => mine / other,
            _ => other / mine,
        }
    }

    fn is_met(self, target: f64, value: f64) -> bool {
        match self {
            Self::PerSecond => value >= target,
            _ => value <= target,
        }
    }
}

struct Row {
    name: &'static str,
    unit: Unit,
    target: Option<f64>,
    samples: Vec<Vec<f64>>,
}

/// All figures of a run, in the order in which they first came.
pub(super) struct Figures {
    servers: Vec<String>,
    rows: Vec<Row>,
    noise: Vec<f64>,
}

/// One server's turn.
pub(super) struct Turn<'a> {
    figures: &'a mut Figures,
    server: usize,
}

impl Turn<'_> {
    /// Adds a sample; `target` is what the project asks of itself.
    pub(super) fn add(&mut self, name: &'static str, unit: Unit, target: Option<f64>, value: f64) {
        let rows = &mut self.figures.rows;
        let found = rows
            .iter()
            .position(|row| row.name == name && row.unit == unit);
        let found = found.unwrap_or_else(|| {
            let samples = vec![Vec::new(); self.figures.servers.len()];
            rows.push(Row {
                name,
                unit,
                target,
                samples,
            });
            rows.len() - 1
        });
        rows[found].samples[self.server].push(value);
    }
}

impl Figures {
    pub(super) fn new(servers: Vec<String>) -> Self {
        Self {
            servers,
            rows: Vec::new(),
            noise: Vec::new(),
        }
    }

    pub(super) fn turn(&mut self, server: usize) -> Turn<'_> {
        Turn {
            figures: self,
            server,
        }
    }

    /// A sample of how long the same work takes.
    pub(super) fn noise(&mut self, took: Duration) {
        self.noise.push(took.as_secs_f64() * 1000.0);
    }

    /// The table: the first server with its least, median and most; the others with median and ratio.
    pub(super) fn table(&self) -> String {
        let mut head = vec!["".to_owned(), "unit".to_owned(), "target".to_owned()];
        for (n, server) in self.servers.iter().enumerate() {
            head.push(server.clone());
            head.push(if n == 0 { "min..max" } else { "times" }.to_owned());
        }
        head.push("".to_owned());
        let rows = std::iter::once(head).chain(self.rows.iter().map(|row| self.line(row)));
        let noise = spread(&self.noise).map_or_else(String::new, |(min, median, max)| {
            format!("\nThis machine: the same work took {min:.0}, {median:.0}, {max:.0} ms (least, median, most).")
        });
        aligned(&rows.collect::<Vec<_>>()) + &noise
    }

    fn line(&self, row: &Row) -> Vec<String> {
        let unit = row.unit;
        let target = row
            .target
            .map_or_else(String::new, |target| unit.show(target));
        let mut line = vec![row.name.to_owned(), unit.name().to_owned(), target];
        let mine = spread(&row.samples[0]).map(|(_, median, _)| median);
        for (n, samples) in row.samples.iter().enumerate() {
            let Some((min, median, max)) = spread(samples) else {
                line.extend(["-".to_owned(), "".to_owned()]);
                continue;
            };
            line.push(unit.show(median));
            line.push(match mine {
                _ if n == 0 => format!("{}..{}", unit.show(min), unit.show(max)),
                Some(mine) if mine > 0.0 && median > 0.0 => {
                    format!("x{:.1}", unit.ratio(mine, median))
                }
                _ => "".to_owned(),
            });
        }
        let met = row
            .target
            .zip(mine)
            .map(|(target, mine)| unit.is_met(target, mine));
        line.push(match met {
            Some(true) => "met".to_owned(),
            Some(false) => "MISSED".to_owned(),
            None => "".to_owned(),
        });
        line
    }
}

/// The least, the median and the most.
fn spread(samples: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some((*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?))
}

/// Rows in columns: the first to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| {
        rows.iter()
            .filter_map(|row| row.get(n))
            .map(String::len)
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|n| width(n).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(n, (cell, &width))| match n {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_say_how_many_times_better_the_first_is() {
        let mut figures = Figures::new(vec!["mine".to_owned(), "other".to_owned()]);
        for (server, speed, time) in [
            (0, 300.0, 0.5),
            (0, 100.0, 0.5),
            (0, 200.0, 0.5),
            (1, 50.0, 2.0),
        ] {
            figures
                .turn(server)
                .add("speed", Unit::PerSecond, Some(250.0), speed);
            figures
                .turn(server)
                .add("time", Unit::Seconds, Some(1.0), time);
        }
        let table = figures.table();
        let words = |n| {
            table
                .lines()
                .nth(n)
                .expect("line")
                .split_whitespace()
                .collect::<Vec<_>>()
        };
        assert_eq!(
            words(1),
            [
                "speed", "req/s", "250", "200", "100..300", "50", "x4.0", "MISSED"
            ]
        );
        assert_eq!(
            words(2),
            [
                "time",
                "s",
                "1.00",
                "0.50",
                "0.50..0.50",
                "2.00",
                "x4.0",
                "met"
            ]
        );
    }
}
