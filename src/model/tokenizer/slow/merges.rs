//! vocab.json and merges.txt: the ids of tokens, and which of them are put together first.

use std::collections::HashMap;

use serde_json::Value;

/// Tokens with their ids. What is no number is passed over, as the library does.
pub(super) fn vocab(text: &[u8]) -> Result<HashMap<String, u32>, String> {
    let tokens: HashMap<String, Value> =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let mut vocab = HashMap::with_capacity(tokens.len());
    for (token, id) in tokens {
        if let Value::Number(id) = id {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| format!("the id of {token:?} is none"))?;
            vocab.insert(token, id);
        }
    }
    if vocab.is_empty() {
        return Err("it has no tokens".to_owned());
    }
    Ok(vocab)
}

/// Pairs of tokens, the first to be put together first.
pub(super) fn merges(text: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "not UTF-8".to_owned())?;
    let mut merges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("#version") {
            continue;
        }
        match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => {
                merges.push((left.to_owned(), right.to_owned()));
            }
            _ => return Err(format!("line {} is not two tokens", number + 1)),
        }
    }
    Ok(merges)
}
