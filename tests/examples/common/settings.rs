//! The settings that `beam` is measured with.

/// 4 turns, beam 2 x 2, all turns searched.
pub(crate) fn beam_options() -> Vec<(String, String)> {
    [("turns", "4"), ("beam", "2"), ("width", "2"), ("patience", "0")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}
