//! Grafana's server-side expressions, as far as our alarms use them: reduce, threshold and math.

use std::collections::BTreeMap;

use super::model::Condition;

/// A series' tags.
pub(crate) type Tags = BTreeMap<String, String>;
/// One number for each series.
pub(crate) type Numbers = BTreeMap<Tags, f64>;

/// One number of a series' values, oldest first; NaN when there are none.
pub(crate) fn reduce(reducer: &str, values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    match reducer {
        "last" => values.last().copied().unwrap_or(f64::NAN),
        "sum" => sum,
        "mean" => sum / values.len() as f64,
        "count" => values.len() as f64,
        "min" => values.iter().copied().reduce(f64::min).unwrap_or(f64::NAN),
        "max" => values.iter().copied().reduce(f64::max).unwrap_or(f64::NAN),
        other => panic!("no reducer {other}"),
    }
}

/// The condition of a threshold expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Threshold {
    Above(f64),
    Below(f64),
    Within(f64, f64),
    Outside(f64, f64),
}

impl Threshold {
    pub(crate) fn of(conditions: &[Condition]) -> Result<Self, String> {
        let [condition] = conditions else { return Err(format!("{} conditions, not one", conditions.len())) };
        match (condition.evaluator.r#type.as_str(), condition.evaluator.params.as_slice()) {
            ("gt", [than]) => Ok(Self::Above(*than)),
            ("lt", [than]) => Ok(Self::Below(*than)),
            ("within_range", [from, to]) => Ok(Self::Within(*from, *to)),
            ("outside_range", [from, to]) => Ok(Self::Outside(*from, *to)),
            other => Err(format!("{other:?}")),
        }
    }

    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::Above(than) => value > than,
            Self::Below(than) => value < than,
            Self::Within(from, to) => value > from && value < to,
            Self::Outside(from, to) => value < from || value > to,
        }
    }
}

/// A math expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Math {
    Number(f64),
    Reference(String),
    Not(Box<Self>),
    Operation(&'static str, Box<Self>, Box<Self>),
}

/// Operators by how tightly they bind, loosest first.
const OPERATORS: [&[&str]; 5] = [&["||"], &["&&"], &["==", "!=", ">=", "<=", ">", "<"], &["+", "-"], &["*", "/", "%"]];

/// Reads a math expression: `$A`, numbers, `+ - * / %`, comparisons, `&& || !` and parentheses.
pub(crate) fn parse(text: &str) -> Result<Math, String> {
    let mut rest = text;
    let math = operation(&mut rest, 0)?;
    if rest.trim().is_empty() { Ok(math) } else { Err(format!("'{rest}' is left of '{text}'")) }
}

fn operation(rest: &mut &str, tightness: usize) -> Result<Math, String> {
    let Some(operators) = OPERATORS.get(tightness) else { return term(rest) };
    let mut left = operation(rest, tightness + 1)?;
    while let Some(operator) = operators.iter().find(|operator| rest.trim_start().starts_with(**operator)) {
        *rest = &rest.trim_start()[operator.len()..];
        left = Math::Operation(operator, Box::new(left), Box::new(operation(rest, tightness + 1)?));
    }
    Ok(left)
}

fn term(rest: &mut &str) -> Result<Math, String> {
    *rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('!') {
        *rest = inner;
        return Ok(Math::Not(Box::new(term(rest)?)));
    }
    if let Some(inner) = rest.strip_prefix('(') {
        *rest = inner;
        let math = operation(rest, 0)?;
        *rest = rest.trim_start().strip_prefix(')').ok_or("a parenthesis is not closed")?;
        return Ok(math);
    }
    let is_reference = rest.starts_with('$');
    let body = rest.strip_prefix('$').unwrap_or(rest);
    let belongs =
        |(at, letter): (usize, char)| letter.is_ascii_alphanumeric() || letter == '.' || (at == 0 && letter == '-');
    let length = body.char_indices().take_while(|&next| belongs(next)).count();
    let (word, after) = body.split_at(length);
    *rest = after;
    match (is_reference, word.parse()) {
        (true, _) if !word.is_empty() => Ok(Math::Reference(word.to_owned())),
        (false, Ok(number)) => Ok(Math::Number(number)),
        _ => Err(format!("'{word}' is neither a number nor $A")),
    }
}

impl Math {
    /// What it refers to.
    pub(crate) fn references(&self) -> Vec<String> {
        match self {
            Self::Number(_) => Vec::new(),
            Self::Reference(name) => vec![name.clone()],
            Self::Not(inner) => inner.references(),
            Self::Operation(_, left, right) => [left.references(), right.references()].concat(),
        }
    }

    /// The numbers that a reference is compared with.
    pub(crate) fn compared_with(&self, reference: &str) -> Vec<f64> {
        match self {
            Self::Operation(_, left, right) => match (left.as_ref(), right.as_ref()) {
                (Self::Reference(name), Self::Number(number)) | (Self::Number(number), Self::Reference(name)) => {
                    if name == reference { vec![*number] } else { Vec::new() }
                }
                _ => [left.compared_with(reference), right.compared_with(reference)].concat(),
            },
            Self::Not(inner) => inner.compared_with(reference),
            _ => Vec::new(),
        }
    }

    /// One number for each series that all the references have, joined by equal labels.
    pub(crate) fn evaluate(&self, known: &BTreeMap<String, Numbers>) -> Numbers {
        let references = self.references();
        let first = &known[&references[0]];
        let tags = first.keys().filter(|tags| references.iter().all(|name| known[name].contains_key(*tags)));
        tags.map(|tags| (tags.clone(), self.value(&|name| known[name][tags]))).collect()
    }

    fn value(&self, known: &impl Fn(&str) -> f64) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Reference(name) => known(name),
            Self::Not(inner) => truth(inner.value(known) == 0.0),
            Self::Operation(operator, left, right) => {
                let (left, right) = (left.value(known), right.value(known));
                match *operator {
                    "+" => left + right,
                    "-" => left - right,
                    "*" => left * right,
                    "/" => left / right,
                    "%" => left % right,
                    "==" => truth(left == right),
                    "!=" => truth(left != right),
                    ">=" => truth(left >= right),
                    "<=" => truth(left <= right),
                    ">" => truth(left > right),
                    "<" => truth(left < right),
                    "&&" => truth(left != 0.0 && right != 0.0),
                    _ => truth(left != 0.0 || right != 0.0),
                }
            }
        }
    }
}

const fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

#[test]
fn math_is_read_as_grafana_reads_it() {
    let series = |value: f64| Numbers::from([(Tags::new(), value)]);
    let known = BTreeMap::from([("A".to_owned(), series(3.0)), ("B".to_owned(), series(60.0))]);
    let value = |text: &str| parse(text).unwrap().evaluate(&known)[&Tags::new()];
    assert_eq!(value("$A + $B / 2 * 3 - 1"), 92.0);
    assert_eq!(value("$A < 4 && $B >= 60"), 1.0);
    assert_eq!(value("$A == 3 && !($B > 59) || $A == -3"), 0.0);
    assert_eq!(parse("$B < 10 && $E >= 60").unwrap().compared_with("B"), [10.0]);
    for wrong in ["$A >", "($A", "$A $B", "A > 1", ""] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
    let lone = BTreeMap::from([("A".to_owned(), series(1.0)), ("B".to_owned(), Numbers::new())]);
    assert!(parse("$A + $B").unwrap().evaluate(&lone).is_empty(), "a series without its counterpart is left out");
    assert_eq!((reduce("last", &[1.0, 2.0]), reduce("max", &[3.0, 2.0]), reduce("count", &[])), (2.0, 3.0, 0.0));
    assert!(reduce("mean", &[]).is_nan() && !Threshold::Above(1.0).holds(f64::NAN));
}
