//! `--format` of commands that list things: docker's words and templates. What a template may name differs from list to
//! list, and has docker's names there.

use std::str::FromStr;

use anyhow::Result;
use serde_json::Value;

use crate::printer;
use crate::template::{Template, TemplateError};

/// How things are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// As somebody wishes, in aligned columns with headings or not.
    Template {
        /// With columns, which tabulators separate.
        table: bool,
        /// A line.
        template: Template,
    },
}

impl FromStr for Layout {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let text = text.trim();
        let (table, rest) = match text.strip_prefix("table ") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        match text {
            "" | "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            _ => Ok(Self::Template {
                table,
                template: rest.replace("\\t", "\t").replace("\\n", "\n").parse()?,
            }),
        }
    }
}

/// Prints a line for each row. `headings` has the names that a template may have, and the headings of their columns.
pub(super) fn print(
    table: bool,
    template: &Template,
    headings: &[(&str, &str)],
    rows: &[Value],
) -> Result<()> {
    if !table {
        for row in rows {
            printer::line(template.render(row)?);
        }
        return Ok(());
    }
    let headings: Value = headings.iter().copied().collect();
    let headings = template.render(&headings)?;
    let headings: Vec<&str> = headings.split('\t').collect();
    let mut table = printer::Table::new(&headings);
    for row in rows {
        table.row(template.render(row)?.split('\t').map(str::to_owned));
    }
    table.print();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn formats_are_words_or_templates() {
        let read = |text: &str| text.parse::<Layout>();
        assert_eq!(read("table"), Ok(Layout::Table));
        assert_eq!(read("json"), Ok(Layout::Json));
        let columns = read("table {{.ID}}\\t{{.Names}}").expect("understood");
        let Layout::Template { table, template } = columns else {
            panic!("a template");
        };
        let row = json!({ "ID": "a", "Names": "b" });
        assert!(table);
        assert_eq!(template.render(&row).as_deref(), Ok("a\tb"));
        assert!(read("{{.ID").is_err());
    }
}
