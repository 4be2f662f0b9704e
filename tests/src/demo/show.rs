//! What the demonstration prints: numbered steps, aligned facts, human units.

use std::time::Duration;

/// Prints a step's title.
pub(super) fn step(number: u32, title: &str) {
    println!("\n{number}. {title}");
}

/// Prints one fact of a step.
pub(super) fn fact(name: &str, value: &str) {
    println!("   {name:<30} {value}");
}

/// Prints a claim that was checked.
pub(super) fn holds(claim: &str) {
    println!("   ✓ {claim}");
}

/// Bytes as a person reads them, decimal units.
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 || unit == "GB" {
            let digits = usize::from(unit != "B" && value < 99.95);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    unreachable!("the last unit takes everything")
}

/// A duration as a person reads it.
pub(super) fn time(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.2} s")
    }
}

/// Prints rows in columns: the first to the left, the others to the right.
pub(super) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| {
        let cells = rows.iter().filter_map(|row| row.get(n));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::from("  ");
        for (n, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width - cell.chars().count());
            match n {
                0 => line.push_str(&format!(" {cell}{gap}")),
                _ => line.push_str(&format!("   {gap}{cell}")),
            }
        }
        println!("{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_human() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_960, "100 kB"),
            (3_450_000, "3.5 MB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(time(Duration::from_millis(12)), "12 ms");
        assert_eq!(time(Duration::from_millis(1250)), "1.25 s");
    }
}
