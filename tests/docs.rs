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

/// The names in backticks of a table's first column, as a schema has them.
fn fields(section: &str) -> Vec<&str> {
    let cells = section.lines().filter(|line| line.starts_with("| `"));
    cells
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(|field| {
            let last = field.rsplit('.').next().unwrap_or(field);
            last.split('[').next().unwrap_or(last)
        })
        .collect()
}

#[test]
fn every_documented_number_is_in_the_experiments_schema() {
    let mut seen = Vec::new();
    for section in include_str!("../docs/experiments.md")
        .split("\n## ")
        .skip(1)
    {
        for part in section.split("\n### ") {
            let heading = part.lines().next().unwrap_or_default();
            let name = heading.trim_end_matches(".json").replace('-', "_");
            let path = format!("{}/schemas/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
            let Ok(schema) = std::fs::read_to_string(path) else {
                continue;
            };
            for field in fields(part) {
                let quoted = format!("\"{field}\": {{");
                assert!(schema.contains(&quoted), "{heading}: no field `{field}`");
            }
            seen.push(name);
        }
    }
    for name in [
        "existence_validation",
        "tokens_analysis",
        "massive_dimensions",
        "intervention_analysis",
        "top_activation_magnitude",
        "self_attention",
        "figures",
        "profile",
        "sinks",
        "life",
        "compare",
    ] {
        assert!(seen.iter().any(|own| own == name), "no section on {name}");
    }
}
