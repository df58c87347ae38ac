"use strict";
(() => {
  const filters = document.querySelector(".filters");
  if (!filters) return;
  const box = document.querySelector(".cards");
  const cards = [...box.children];
  const { kinds, totals } = JSON.parse(filters.dataset.counts);
  const [set, kind, find] = ["set", "kind", "find"].map((id) => document.getElementById(id));
  const buttons = [...filters.querySelectorAll("button")];
  const words = new Map(
    cards.map((card) => {
      // The small numbers at the characters are no part of the text.
      const text = (name) => {
        const copy = card.querySelector(name).cloneNode(true);
        copy.querySelectorAll("small").forEach((small) => small.remove());
        return copy.textContent;
      };
      return [card, `${text(".label")}\n${text(".read")}`.replaceAll("␣", " ").toLowerCase()];
    }),
  );

  function total() {
    const rows = set.value === "" ? totals : [totals[Number(set.value)]];
    const columns = kind.value === "" ? kinds.map((_, i) => i) : [kinds.indexOf(kind.value)];
    return rows.flatMap((row) => columns.map((i) => row[i])).reduce((a, b) => a + b, 0);
  }

  function update() {
    const sought = find.value.toLowerCase();
    let seen = 0;
    for (const card of cards) {
      const fits =
        (set.value === "" || card.dataset.set === set.value) &&
        (kind.value === "" || card.dataset.kind === kind.value) &&
        words.get(card).includes(sought);
      card.hidden = !fits;
      seen += fits;
    }
    const of = sought ? "" : ` of ${total().toLocaleString("en")}`;
    filters.querySelector("output").textContent = `${seen.toLocaleString("en")}${of} shown`;
  }

  function order(by) {
    const other = by === "sure" ? "worst" : "sure";
    const value = (card, key) => Number(card.dataset[key]);
    cards.sort((a, b) => value(b, by) - value(a, by) || value(b, other) - value(a, other));
    box.append(...cards);
    buttons.forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.order === by)));
  }

  buttons.forEach((b) => b.addEventListener("click", () => order(b.dataset.order)));
  [set, kind, find].forEach((field) => field.addEventListener("input", update));
  // A character and its place in the picture light up together.
  const light = (event, on) => {
    const at = event.target.closest("[data-i]");
    const card = at && at.closest(".card");
    if (card)
      card.querySelectorAll(`[data-i="${at.dataset.i}"]`).forEach((e) => e.classList.toggle("lit", on));
  };
  box.addEventListener("pointerover", (event) => light(event, true));
  box.addEventListener("pointerout", (event) => light(event, false));
  // A browser that comes back to the page keeps what was chosen.
  update();
})();
