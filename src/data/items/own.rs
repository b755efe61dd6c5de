//! Items in massact's own fields, for tasks that no harness has.

use super::{
    fields::Fields,
    item::{Choice, Convention, Item, Right},
};
use crate::error::Result;

/// `context` and `choices`, or `contexts` and one `continuation`; `gold` or `labels`. A space stands
/// between context and continuation.
pub(super) fn own(row: &Fields<'_>, _: Convention) -> Result<Item> {
    let several = row.has("contexts");
    let choices: Vec<Choice> = if several {
        let continuation = row.text("continuation")?;
        let contexts = row.texts("contexts")?;
        let choice = |context: &&str| Choice::new(context, " ", continuation);
        contexts.iter().map(choice).collect()
    } else {
        let context = row.text("context")?;
        let choices = row.texts("choices")?;
        let choice = |choice: &&str| Choice::new(context, " ", choice);
        choices.iter().map(choice).collect()
    };
    let right = if row.has("labels") {
        let labels = row.flags("labels")?;
        if labels.len() != choices.len() {
            return Err(row.bad(
                "labels",
                format!("has {} entries for {} choices", labels.len(), choices.len()),
            ));
        }
        Right::Each(labels)
    } else {
        Right::Choice(row.index("gold", 0, choices.len())?)
    };
    Ok(Item {
        row: row.row,
        // One continuation has one length, and shares of probability are not normed.
        normed: !several && matches!(right, Right::Choice(_)),
        choices,
        right,
    })
}
