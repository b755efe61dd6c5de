//! What a template keeps in a `namespace`: plain data only.
//!
//! A namespace is the one value of a template that can change after others hold it, so it is the one that could
//! come to hold itself. Who prints it, compares it or makes JSON of it would then recurse until the stack ends,
//! which ends the program. The library has no hook where an attribute is set, so what is set goes through a
//! filter first: `{% set seen.name = value %}` is read as `{% set seen.name = (value)|namespace_data %}`.

use minijinja::{
    Environment, Error, ErrorKind, Value,
    machinery::{Token, tokenize},
    syntax::SyntaxConfig,
    value::{ObjectRepr, ValueKind},
};

/// The filter's name, which no template needs to know.
const FILTER: &str = "namespace_data";
/// How deep lists and mappings in a namespace may lie in each other: a template that nests what it kept before would
/// exhaust the stack without any cycle.
const DEEPEST: usize = 64;
/// Values that are looked at each time: a template would take long enough to keep so many.
const MOST: usize = 100_000;

/// Adds the filter to what templates know.
pub(super) fn allow_plain_data(environment: &mut Environment<'_>) {
    environment.add_filter(FILTER, |value: Value| {
        check(&value, 0, &mut 0)?;
        Ok::<_, Error>(value)
    });
}

/// The template with that filter wherever an attribute is set.
pub(super) fn filtered(source: &str, syntax: SyntaxConfig) -> Result<String, Error> {
    let mut out = String::with_capacity(source.len());
    let mut copied = 0;
    // Of the tag that is read, if it sets something: whether that is an attribute, and where its value begins.
    let mut first = false;
    let mut set: Option<(bool, Option<usize>)> = None;
    for token in tokenize(source, false, syntax) {
        let (token, place) = token?;
        match (&token, &mut set) {
            (Token::BlockStart, _) => (first, set) = (true, None),
            (Token::Ident("set"), _) if first => (first, set) = (false, Some((false, None))),
            (Token::Dot, Some((dotted, None))) => *dotted = true,
            (Token::Assign, Some((true, value @ None))) => {
                *value = Some(place.end_offset as usize);
            }
            // A plain variable's value, or the filter of a block's text.
            (Token::Assign | Token::Pipe, Some((_, None))) => set = None,
            (Token::BlockEnd, Some((_, Some(value)))) => {
                let end = place.start_offset as usize;
                let part = |from: usize, to: usize| source.get(from..to).unwrap_or_default();
                out.push_str(part(copied, *value));
                out.push('(');
                out.push_str(part(*value, end));
                out.push_str(")|");
                out.push_str(FILTER);
                out.push(' ');
                copied = end;
                set = None;
            }
            _ => first = false,
        }
    }
    out.push_str(source.get(copied..).unwrap_or_default());
    Ok(out)
}

/// Refuses a value that is or holds a namespace, or that lies too deep.
fn check(value: &Value, depth: usize, seen: &mut usize) -> Result<(), Error> {
    let refused = |reason: &'static str| Err(Error::new(ErrorKind::InvalidOperation, reason));
    *seen += 1;
    if depth > DEEPEST || *seen > MOST {
        return refused("a namespace is to hold values that are nested too deep, or too many");
    }
    if let Some(object) = value.as_object() {
        if object.type_name().ends_with("::Namespace") {
            return refused("a namespace is to hold a namespace");
        }
        if object.repr() == ObjectRepr::Plain {
            // A function or a macro, which is shown by its name.
            return Ok(());
        }
    }
    match value.kind() {
        ValueKind::Map => value.try_iter()?.try_for_each(|key| {
            check(&key, depth + 1, seen)?;
            check(&value.get_item(&key)?, depth + 1, seen)
        }),
        ValueKind::Seq | ValueKind::Iterable => value
            .try_iter()?
            .try_for_each(|item| check(&item, depth + 1, seen)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(source: &str) -> String {
        filtered(source, SyntaxConfig::default()).expect("a template")
    }

    #[test]
    fn what_is_set_goes_through_the_filter() {
        for (source, expected) in [
            (
                "a{%- set n.x = 1 + 2 -%}b",
                "a{%- set n.x = (1 + 2 )|namespace_data -%}b",
            ),
            (
                "{% set n.x, y = \"%}\", [1] %}",
                "{% set n.x, y = (\"%}\", [1] )|namespace_data %}",
            ),
            (
                "{%set(n.x)=n%}{{ set }}",
                "{%set(n.x)=(n)|namespace_data %}{{ set }}",
            ),
        ] {
            let compact = |text: &str| text.replace(' ', "");
            assert_eq!(compact(&read_as(source)), compact(expected));
        }
        for same in [
            "{% set x = n.x %}",
            "{% set x = f(a.b, c=1) %}",
            "{% set n.x %}words{% endset %}",
            "{% set n.x | f(a=1) %}words{% endset %}",
            "{% raw %}{% set n.x = n %}{% endraw %}",
            "{# {% set n.x = n %} #}{{ 'x' }}",
            "{% if set.x == 1 %}{% endif %}",
        ] {
            assert_eq!(read_as(same), same);
        }
    }
}
