//! The text of a scrape, read as strictly as its specification allows
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>), with the conventions that promtool checks.

use std::collections::BTreeMap;

use crate::http::Http;

/// The labels of a sample, sorted.
pub type Labels = BTreeMap<String, String>;

/// All samples of a scrape.
#[derive(Debug)]
pub struct Scrape {
    families: BTreeMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
}

impl Scrape {
    /// Asks a server's admin listener.
    #[track_caller]
    pub fn of(admin: Http) -> Self {
        let reply = admin.send("GET", "/metrics", &[], b"").expect(200);
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(reply.header("content-type"), Some(kind));
        let text = String::from_utf8(reply.body).expect("UTF-8");
        match Self::parse(&text) {
            Ok(scrape) => scrape,
            Err(why) => panic!("{why}\n{text}"),
        }
    }

    /// Reads a text.
    ///
    /// # Errors
    /// The first line that breaks a rule, and which rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut scrape = Self {
            families: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        if !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        let mut helped = String::new();
        let mut family = (String::new(), String::new());
        for line in text.lines() {
            let wrong = |why: &str| Err(format!("{why}: {line:?}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let Some((name, help)) = rest.split_once(' ') else {
                    return wrong("HELP without a text");
                };
                if help.is_empty() || scrape.families.contains_key(name) {
                    return wrong("no help, or a family twice");
                }
                helped = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let Some((name, kind)) = rest.split_once(' ') else {
                    return wrong("TYPE without a kind");
                };
                if name != helped {
                    return wrong("TYPE without HELP before it");
                }
                if !is_name(name) || (kind == "counter") != name.ends_with("_total") {
                    return wrong("a bad name, or _total and counter apart");
                }
                family = (name.to_owned(), kind.to_owned());
                scrape.families.insert(name.to_owned(), kind.to_owned());
            } else {
                let (name, labels, value) = sample(line).ok_or(format!("no sample: {line:?}"))?;
                let rest = name.strip_prefix(&family.0);
                let fits = match family.1.as_str() {
                    "histogram" => matches!(rest, Some("_bucket" | "_sum" | "_count")),
                    "counter" | "gauge" => rest == Some(""),
                    _ => false,
                };
                if !fits {
                    return wrong("not of the family above it");
                }
                if family.1 != "gauge" && value < 0.0 {
                    return wrong("negative");
                }
                if scrape.samples.insert((name, labels), value).is_some() {
                    return wrong("twice");
                }
            }
        }
        scrape.check_histograms()?;
        Ok(scrape)
    }

    /// Buckets do not fall, the last is infinite and equals the count.
    fn check_histograms(&self) -> Result<(), String> {
        let histograms = self
            .families
            .iter()
            .filter(|(_, kind)| *kind == "histogram");
        for (family, _) in histograms {
            let bucket = format!("{family}_bucket");
            let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((_, labels), value) in self.samples.iter().filter(|((name, _), _)| *name == bucket)
            {
                let mut labels = labels.clone();
                let bound = labels.remove("le").ok_or(format!("{bucket} without le"))?;
                let bound: f64 = bound.parse().map_err(|_| format!("le {bound}"))?;
                series.entry(labels).or_default().push((bound, *value));
            }
            for (labels, mut buckets) in series {
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                let count = self
                    .samples
                    .get(&(format!("{family}_count"), labels.clone()));
                let sum = self.samples.get(&(format!("{family}_sum"), labels));
                let falls = buckets.windows(2).any(|pair| pair[0].1 > pair[1].1);
                let last = buckets.last().filter(|(bound, _)| bound.is_infinite());
                if falls || last.is_none() || last.map(|(_, n)| n) != count || sum.is_none() {
                    return Err(format!("{family} is no histogram: {buckets:?} {count:?}"));
                }
            }
        }
        Ok(())
    }

    /// A sample; what has never occurred is 0.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let found = self.samples.get(&(name.to_owned(), labels.collect()));
        found.copied().unwrap_or(0.0)
    }

    /// The names of all families.
    pub fn families(&self) -> impl Iterator<Item = &str> {
        self.families.keys().map(String::as_str)
    }

    /// Every value of every label.
    pub fn label_values(&self) -> impl Iterator<Item = &str> {
        let labels = self.samples.keys().flat_map(|(_, labels)| labels.values());
        labels.map(String::as_str)
    }
}

fn is_name(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|b| b.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            if !is_name(label) || labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    let number = rest.strip_prefix(' ')?;
    let plain = number
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.e".contains(&b));
    let value = number.parse().ok().filter(|_| plain)?;
    is_name(name).then(|| (name.to_owned(), labels, value))
}

/// The text up to the closing quote, and what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('"' | '\\') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total Some.\n# TYPE a_total counter\na_total{x=\"1\\n\"} 2\n\
        # HELP h Time.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\n";

    #[test]
    fn a_good_text_is_read() {
        let scrape = Scrape::parse(GOOD).expect("good");
        assert!((scrape.get("a_total", &[("x", "1\n")]) - 2.0).abs() < 1e-9);
        assert!((scrape.get("h_count", &[]) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        for (part, instead) in [
            ("# HELP a_total Some.\n", ""),
            ("a_total counter", "a_total gauge"),
            ("a_total{x=\"1\\n\"} 2", "a_total{x=\"1\\n\"} two"),
            ("a_total{x=\"1\\n\"} 2", "a_total{x=\"1\\n\"} -2"),
            ("a_total{x=\"1\\n\"} 2", "b_total 2"),
            ("le=\"0.5\"} 1", "le=\"0.5\"} 3"),
            ("le=\"+Inf\"} 2", "le=\"1\"} 2"),
            ("h_count 2", "h_count 3"),
            ("h_count 2\n", "h_count 2"),
            ("h_sum 3.5\n", "h_sum 3.5\nh_sum 3.5\n"),
        ] {
            let bad = GOOD.replacen(part, instead, 1);
            assert!(Scrape::parse(&bad).is_err(), "{bad}");
        }
    }
}
