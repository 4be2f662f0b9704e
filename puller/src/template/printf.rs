//! `printf`: the verbs of Go's package fmt that people write behind docker's `--format`.

use serde_json::Value;

use super::{TemplateError, shown};

/// Nobody's column is wider.
const WIDEST: usize = 4096;

/// The text with values in the places of `%s`, `%v`, `%d` and `%q`; with a width (`%10s`), and `-` for the left.
///
/// # Errors
/// Another verb, values that are missing or left over.
pub(super) fn format(form: &str, values: &[Value]) -> Result<String, TemplateError> {
    let mut values = values.iter();
    let mut out = String::new();
    let mut rest = form.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let left = rest.next_if_eq(&'-').is_some();
        let mut width = 0usize;
        while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
            width = width.saturating_mul(10).saturating_add(digit as usize);
            rest.next();
        }
        let verb = rest.next();
        if verb == Some('%') {
            out.push('%');
            continue;
        }
        let value = values.next();
        let value = value.ok_or_else(|| TemplateError(format!("printf {form:?} has no value")))?;
        let text = match (verb, value) {
            (Some('s' | 'v'), value) => shown(value),
            (Some('d'), Value::Number(number)) => number.to_string(),
            (Some('q'), Value::String(_)) => value.to_string(),
            _ => return Err(TemplateError(format!("printf {form:?} is not for that"))),
        };
        let room = width.min(WIDEST).saturating_sub(text.chars().count());
        let room = " ".repeat(room);
        match left {
            true => out.extend([text, room]),
            false => out.extend([room, text]),
        }
    }
    match values.next() {
        None => Ok(out),
        Some(_) => Err(TemplateError(format!(
            "printf {form:?} has too many values"
        ))),
    }
}
