//! The documentation says what the program does.

use massact::model::families::FAMILIES;

/// Rows of the first table of a Markdown text, cells trimmed, without its head.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn the_table_of_models_is_the_registry() {
    let documented = rows(include_str!("../docs/models.md"));
    let registered: Vec<_> = FAMILIES
        .iter()
        .map(|family| (format!("`{}`", family.model_type), family))
        .collect();
    assert_eq!(documented.len(), registered.len(), "rows of docs/models.md");
    for (row, (model_type, family)) in documented.iter().zip(&registered) {
        assert_eq!(*row, [model_type.as_str(), family.example, family.notes]);
    }
}

#[test]
fn families_are_in_order_and_named_once() {
    let names: Vec<_> = FAMILIES.iter().map(|family| family.model_type).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(names, sorted);
}
