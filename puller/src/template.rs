//! `--format '{{.State.Status}}'`: the part of Go's templates (pkg.go.dev/text/template) that people write behind docker's
//! `--format`: fields, `json`, `index`, `len`, `join`, `lower`, `upper`, `println`, pipes, `range`, `if`, `else`.

use serde_json::Value;

mod parse;
#[cfg(test)]
mod tests;

/// What is wrong with a template, or with what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: {0}")]
pub(crate) struct TemplateError(String);

/// A template that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Node>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Text(String),
    Show(Vec<Call>),
    /// Once for each element of a value; the others if there is none.
    Range(Vec<Call>, Vec<Node>, Vec<Node>),
    /// If a value is neither empty nor false; else the others.
    If(Vec<Call>, Vec<Node>, Vec<Node>),
}

/// A function and its arguments; a value alone is called nothing. The result of a call is the last argument of the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    function: String,
    arguments: Vec<Argument>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Argument {
    /// Fields of fields; none is the value itself.
    Field(Vec<String>),
    Text(String),
    Number(u32),
}

impl Template {
    /// What the template makes of a value.
    ///
    /// # Errors
    /// A field that is not there, a function of a value that it is not for.
    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        render(&self.0, value, &mut out)?;
        Ok(out)
    }
}

fn render(nodes: &[Node], value: &Value, out: &mut String) -> Result<(), TemplateError> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Show(calls) => out.push_str(&shown(&evaluate(calls, value)?)),
            Node::Range(calls, each, none) => {
                let elements: Vec<Value> = match evaluate(calls, value)? {
                    Value::Array(elements) => elements,
                    Value::Object(fields) => fields.into_iter().map(|(_, v)| v).collect(),
                    Value::Null => Vec::new(),
                    other => {
                        let shown = shown(&other);
                        return Err(TemplateError(format!("range cannot go over {shown}")));
                    }
                };
                if elements.is_empty() {
                    render(none, value, out)?;
                }
                for element in &elements {
                    render(each, element, out)?;
                }
            }
            Node::If(calls, then, otherwise) => {
                let found = evaluate(calls, value)?;
                render(if is_true(&found) { then } else { otherwise }, value, out)?;
            }
        }
    }
    Ok(())
}

fn evaluate(calls: &[Call], value: &Value) -> Result<Value, TemplateError> {
    let mut result = None;
    for call in calls {
        let mut arguments = Vec::new();
        for argument in &call.arguments {
            arguments.push(match argument {
                Argument::Field(path) => field(value, path)?,
                Argument::Text(text) => text.as_str().into(),
                Argument::Number(number) => (*number).into(),
            });
        }
        arguments.extend(result.take());
        result = Some(apply(&call.function, &arguments)?);
    }
    Ok(result.unwrap_or_default())
}

fn field(value: &Value, path: &[String]) -> Result<Value, TemplateError> {
    let mut at = value;
    for name in path {
        at = at.get(name).ok_or_else(|| {
            TemplateError(format!("there is no field {name:?} in .{}", path.join(".")))
        })?;
    }
    Ok(at.clone())
}

fn apply(function: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let wrong = || TemplateError(format!("{function} is not for that"));
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(wrong);
    Ok(match (function, arguments) {
        ("", [value]) => value.clone(),
        ("json", [value]) => value.to_string().into(),
        ("println", values) => {
            let words: Vec<String> = values.iter().map(shown).collect();
            format!("{}\n", words.join(" ")).into()
        }
        ("len", [Value::Array(values)]) => values.len().into(),
        ("len", [Value::Object(fields)]) => fields.len().into(),
        ("len", [Value::String(text)]) => text.len().into(),
        ("len", [Value::Null]) => 0.into(),
        ("lower", [value]) => text(value)?.to_lowercase().into(),
        ("upper", [value]) => text(value)?.to_uppercase().into(),
        ("join", [Value::Array(values), between]) => {
            let words: Vec<String> = values.iter().map(shown).collect();
            words.join(&text(between)?).into()
        }
        ("index", [value, keys @ ..]) if !keys.is_empty() => {
            let mut at = value;
            for key in keys {
                let found = match (at, key) {
                    (Value::Array(values), Value::Number(number)) => {
                        let index = number.as_u64().and_then(|n| usize::try_from(n).ok());
                        values.get(index.ok_or_else(wrong)?)
                    }
                    // A key that is not there has no value, as in a map of Go's.
                    (Value::Object(fields), Value::String(key)) => {
                        Some(fields.get(key).unwrap_or(&Value::Null))
                    }
                    _ => return Err(wrong()),
                };
                let missing = || TemplateError(format!("index out of range: {}", shown(key)));
                at = found.ok_or_else(missing)?;
            }
            at.clone()
        }
        _ => return Err(wrong()),
    })
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// As Go prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            let words: Vec<String> = values.iter().map(shown).collect();
            format!("[{}]", words.join(" "))
        }
        Value::Object(fields) => {
            let words = fields.iter().map(|(k, v)| format!("{k}:{}", shown(v)));
            format!("map[{}]", words.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}
