//! `--format '{{.State.Status}}'`: the part of Go's templates (pkg.go.dev/text/template) that people write behind docker's
//! `--format`: fields, `json`, `index`, `len`, `join`, `lower`, `upper`, `println`, `printf`, `eq`, `ne`, pipes, `range`, `if`,
//! `else`, and the variables of a `range`.

use serde_json::Value;

mod parse;
mod printf;
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
    /// Once for each element of a value, whose key and itself have these names; the others if there is none.
    Range(Names, Vec<Call>, Vec<Node>, Vec<Node>),
    /// If a value is neither empty nor false; else the others.
    If(Vec<Call>, Vec<Node>, Vec<Node>),
}

/// The names of a loop's variables: the key's or index', and the element's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    key: Option<String>,
    element: Option<String>,
}

/// Variables, the latest last.
type Scope = Vec<(String, Value)>;

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
    /// The same of a variable; the one without a name is all that the template is given.
    Variable(String, Vec<String>),
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
        let mut scope = vec![(String::new(), value.clone())];
        render(&self.0, value, &mut scope, &mut out)?;
        Ok(out)
    }
}

fn render(
    nodes: &[Node],
    value: &Value,
    scope: &mut Scope,
    out: &mut String,
) -> Result<(), TemplateError> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Show(calls) => out.push_str(&shown(&evaluate(calls, value, scope)?)),
            Node::Range(names, calls, each, none) => {
                let elements: Vec<(Value, Value)> = match evaluate(calls, value, scope)? {
                    Value::Array(elements) => elements
                        .into_iter()
                        .enumerate()
                        .map(|(index, v)| (index.into(), v))
                        .collect(),
                    Value::Object(fields) => {
                        fields.into_iter().map(|(k, v)| (k.into(), v)).collect()
                    }
                    Value::Null => Vec::new(),
                    other => {
                        let shown = shown(&other);
                        return Err(TemplateError(format!("range cannot go over {shown}")));
                    }
                };
                if elements.is_empty() {
                    render(none, value, scope, out)?;
                }
                for (key, element) in elements {
                    let outside = scope.len();
                    let key = names.key.iter().map(|name| (name.clone(), key.clone()));
                    scope.extend(key);
                    let named = names.element.iter();
                    scope.extend(named.map(|name| (name.clone(), element.clone())));
                    render(each, &element, scope, out)?;
                    scope.truncate(outside);
                }
            }
            Node::If(calls, then, otherwise) => {
                let found = evaluate(calls, value, scope)?;
                let nodes = if is_true(&found) { then } else { otherwise };
                render(nodes, value, scope, out)?;
            }
        }
    }
    Ok(())
}

fn evaluate(calls: &[Call], value: &Value, scope: &Scope) -> Result<Value, TemplateError> {
    let mut result = None;
    for call in calls {
        let mut arguments = Vec::new();
        for argument in &call.arguments {
            arguments.push(match argument {
                Argument::Field(path) => field(value, path)?,
                Argument::Variable(name, path) => {
                    let named = scope.iter().rev().find(|(known, _)| known == name);
                    let named = named.ok_or_else(|| {
                        TemplateError(format!("there is no variable ${name} here"))
                    })?;
                    field(&named.1, path)?
                }
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
        ("printf", [Value::String(form), values @ ..]) => printf::format(form, values)?.into(),
        ("eq", [one, others @ ..]) if !others.is_empty() => others.contains(one).into(),
        ("ne", [one, other]) => (one != other).into(),
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
