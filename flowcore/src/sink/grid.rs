//! Aligned columns, as wide as what stands in them.

/// Rows that are written together, so that each column is as wide as its widest cell.
pub(super) struct Grid {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

struct Column {
    title: &'static str,
    is_number: bool,
    /// It stays away where no row has anything in it.
    is_optional: bool,
    width: usize,
}

impl Grid {
    /// Makes a grid without columns.
    pub(super) fn new() -> Self {
        Grid { columns: Vec::new(), rows: Vec::new() }
    }

    /// Adds a column of texts, at least `width` characters wide.
    pub(super) fn text(mut self, title: &'static str, width: usize) -> Self {
        let width = width.max(title.len());
        self.columns.push(Column { title, is_number: false, is_optional: false, width });
        self
    }

    /// Adds a column of texts that stays away where no row has one.
    pub(super) fn optional(mut self, title: &'static str) -> Self {
        self.columns.push(Column { title, is_number: false, is_optional: true, width: title.len() });
        self
    }

    /// Adds a column of numbers, at least `width` characters wide.
    pub(super) fn number(mut self, title: &'static str, width: usize) -> Self {
        let width = width.max(title.len());
        self.columns.push(Column { title, is_number: true, is_optional: false, width });
        self
    }

    /// Adds a row: a cell for each column.
    pub(super) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    /// Appends all rows, with the titles above them if so wished, and forgets them.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, with_titles: bool) {
        let rows = std::mem::take(&mut self.rows);
        let shown: Vec<bool> = self
            .columns
            .iter()
            .enumerate()
            .map(|(nth, column)| {
                let cells = || rows.iter().filter_map(move |row| row.get(nth));
                !column.is_optional || cells().any(|cell| !cell.is_empty())
            })
            .collect();
        for (nth, column) in self.columns.iter_mut().enumerate() {
            let cells = rows.iter().filter_map(|row| row.get(nth));
            column.width = cells.map(|cell| cell.chars().count()).fold(column.width, usize::max);
        }
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        for row in with_titles.then_some(&titles).into_iter().chain(&rows) {
            let start = out.len();
            for ((column, cell), _) in self.columns.iter().zip(row).zip(&shown).filter(|(_, shown)| **shown) {
                let padding = column.width.saturating_sub(cell.chars().count());
                let (before, after) = if column.is_number { (padding, 0) } else { (0, padding) };
                if out.len() > start {
                    out.extend_from_slice(b"  ");
                }
                out.resize(out.len() + before, b' ');
                out.extend_from_slice(cell.as_bytes());
                out.resize(out.len() + after, b' ');
            }
            while out.len() > start && out.last() == Some(&b' ') {
                out.pop();
            }
            out.push(b'\n');
        }
    }

    /// Tells whether there is no row.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
