// Sorted columns, a filter over all rows, and a card of seeds for each row. The page says all of it without this.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, facts) => Object.assign(document.createElement(tag), facts);

  // --- sorting ---------------------------------------------------------------------------------------------
  const DASH = "–";
  const WORDS = new Intl.Collator("en", { numeric: true });
  const NUMBER = /^[<>≤≥~]?\s*([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?=$|[\s±%(])/i;

  /** What a cell holds, without marks of notes and second lines; "" where it holds nothing. */
  const said = (row, column) => {
    const cell = row.cells[column];
    if (!cell || cell.colSpan > 1) return "";
    const parts = [...cell.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE || node.tagName === "A");
    const text = parts.map((node) => node.textContent).join("").trim();
    return text === DASH ? "" : text;
  };

  const value = (text) => {
    const found = NUMBER.exec(text.replace("−", "-"));
    return found ? Number(found[1].replaceAll(",", "")) : NaN;
  };

  /** The keys of a column: numbers, where any is one and nothing else starts like one; else words. */
  const keys = (rows, column, wordy) => {
    const texts = rows.map((row) => said(row, column));
    const numbers = texts.map(value);
    const odd = texts.some((text, i) => Number.isNaN(numbers[i]) && /^[+-]?\d/.test(text));
    return wordy || odd || numbers.every(Number.isNaN) ? texts : numbers;
  };

  /** Rows by a column; cells that hold nothing come last whichever way, equal ones stay as they stand. */
  const sorted = (rows, column, wordy, down) => {
    const key = new Map(keys(rows, column, wordy).map((each, i) => [rows[i], each]));
    const blank = (each) => each === "" || Number.isNaN(each);
    const compare = (a, b) => (typeof a === "number" ? a - b : WORDS.compare(a, b));
    return [...rows].sort((first, second) => {
      const a = key.get(first);
      const b = key.get(second);
      if (blank(a) || blank(b)) return blank(a) - blank(b);
      return down ? compare(b, a) : compare(a, b);
    });
  };

  for (const table of all("table.sort")) {
    const body = table.tBodies[0];
    const first = [...body.rows];
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = make("button", { type: "button", title: head.title });
      button.append(...head.childNodes);
      head.append(button);
      head.removeAttribute("title");
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "" }[head.ariaSort] ?? "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) head.setAttribute("aria-sort", next);
        const wordy = head.matches(".name, .words");
        body.append(...(next ? sorted([...body.rows], column, wordy, next === "descending") : first));
      });
    });
  }

  // --- filter ----------------------------------------------------------------------------------------------
  const filter = document.querySelector(".filter");
  const asked = filter.querySelector("input");
  const answer = filter.querySelector("output");
  const rows = all("table.sort tbody tr").map((row) => {
    const title = row.closest("section").querySelector("h2").textContent;
    return { row, text: `${title} ${row.textContent}`.toLowerCase() };
  });
  const regions = all(".scroll").filter((region) => region.querySelector("table.sort"));
  const sections = all("main > section").filter((section) => section.querySelector("table.sort"));
  const shown = (root) => root.querySelector("table.sort tbody tr:not(.off)") !== null;

  const narrow = () => {
    const words = asked.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const { row, text } of rows) {
      const fits = words.every((word) => text.includes(word));
      row.classList.toggle("off", !fits);
      left += fits;
    }
    for (const region of regions) region.classList.toggle("off", !shown(region));
    for (const section of sections) {
      section.classList.toggle("off", !shown(section));
      const link = document.querySelector(`nav a[href="#${section.id}"]`);
      link?.parentElement.classList.toggle("off", !shown(section));
    }
    answer.value = words.length ? `${left} of ${rows.length} rows shown` : `${rows.length} rows`;
  };
  asked.addEventListener("input", narrow);
  if (rows.length) {
    filter.hidden = false;
    narrow(); // a browser may have kept what was typed before a reload
  }

  // --- cards -----------------------------------------------------------------------------------------------
  const card = make("div", { id: "card", className: "card", tabIndex: 0, hidden: true });
  card.setAttribute("role", "dialog");
  if (card.showPopover) card.popover = "manual"; // the top layer: nothing clips it
  let owner = null;
  let pinned = false;
  let waiting = 0;
  let back = false; // on the way from the card to its name

  const place = () => {
    const at = owner.getBoundingClientRect();
    const room = window.innerHeight - at.bottom;
    const above = room < card.offsetHeight + 8 && at.top > room;
    card.style.top = `${Math.max(4, above ? at.top - card.offsetHeight - 4 : at.bottom + 4)}px`;
    card.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - card.offsetWidth - 8))}px`;
  };

  const close = () => {
    clearTimeout(waiting);
    if (!owner) return;
    owner.setAttribute("aria-expanded", "false");
    owner = null;
    pinned = false;
    if (card.popover) card.hidePopover();
    card.hidden = true;
  };

  const open = (link, pin) => {
    clearTimeout(waiting);
    if (owner !== link) {
      close();
      const group = document.getElementById(link.hash.slice(1)).cloneNode(true);
      const shared = document.getElementById(link.dataset.made)?.cloneNode(true);
      const shut = make("button", { type: "button", className: "close", textContent: "×", ariaLabel: "Close" });
      shut.addEventListener("click", leave);
      shared?.removeAttribute("id");
      card.replaceChildren(shut, ...group.childNodes, ...(shared ? [shared] : []));
      card.ariaLabel = `Seeds and provenance of ${link.textContent}`;
      owner = link;
      link.after(card); // the next stop of Tab
      link.setAttribute("aria-expanded", "true");
      card.hidden = false;
      if (card.popover) card.showPopover();
      card.scrollTop = 0;
      place();
    }
    pinned ||= pin;
  };

  const soon = (act, wait) => {
    clearTimeout(waiting);
    waiting = setTimeout(act, wait);
  };

  /** Close, and go back to the name if the reader was inside. */
  const leave = () => {
    const link = owner;
    const inside = card.contains(document.activeElement);
    close();
    if (inside) {
      back = true;
      link.focus();
      back = false;
    }
  };

  for (const link of all("a.more")) {
    link.setAttribute("role", "button");
    link.setAttribute("aria-haspopup", "dialog");
    link.setAttribute("aria-expanded", "false");
    link.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse") soon(() => open(link, false), 120);
    });
    link.addEventListener("pointerleave", () => soon(() => pinned || close(), 250));
    link.addEventListener("focus", () => back || (link.matches(":focus-visible") && open(link, false)));
    link.addEventListener("click", (event) => {
      event.preventDefault();
      if (owner === link && pinned) close();
      else open(link, true);
    });
    link.addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      link.click();
    });
  }
  card.addEventListener("pointerenter", () => clearTimeout(waiting));
  card.addEventListener("pointerleave", () => soon(() => pinned || card.contains(document.activeElement) || close(), 250));
  document.addEventListener("focusin", (event) => {
    if (owner && event.target !== owner && !card.contains(event.target)) close();
  });
  document.addEventListener("pointerdown", (event) => {
    if (owner && !card.contains(event.target) && !owner.contains(event.target)) close();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && owner) leave();
  });
  const follow = () => owner && place();
  addEventListener("scroll", follow, { capture: true, passive: true });
  addEventListener("resize", follow);
})();
