"use strict";

// Columns sort by a click on their head; the first click puts the best value on top, missing ones stay below.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.best || "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      const sign = order === "ascending" ? 1 : -1;
      const words = head.classList.contains("text");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (words ? x.localeCompare(y, "en", { numeric: true }) : Number(x) - Number(y));
      });
      table.tBodies[0].append(...rows);
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
    });
  });
}

// The values at the step nearest to the pointer, or at the next one with the arrow keys.
const legend = document.querySelector(".legend");
for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg");
  const cursor = svg.querySelector(".cursor");
  const points = [...svg.querySelectorAll(".point")];
  points.forEach((point) => point.querySelector("title").remove());
  const stepped = points.filter((point) => point.dataset.step);
  const places = [...new Set(stepped.map((point) => Number(point.dataset.x)))].sort((a, b) => a - b);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  plot.append(tip);
  let at = -1;

  const line = (tag, text, parent) => {
    const node = document.createElement(tag);
    node.textContent = text;
    parent.append(node);
    return node;
  };
  const show = (index) => {
    at = Math.min(Math.max(index, 0), places.length - 1);
    const here = stepped.filter((point) => Number(point.dataset.x) === places[at]);
    tip.replaceChildren();
    line("strong", `step ${here[0].dataset.step}`, tip);
    for (const point of here) {
      const row = line("div", "", tip);
      const value = line("b", point.dataset.text, row);
      const key = legend?.children[point.parentNode.dataset.run].cloneNode(true);
      if (key) value.before(key.querySelector("svg"));
      if (key) value.after(key.querySelector("span"));
      row.className = "line-of";
    }
    cursor.setAttribute("transform", `translate(${places[at]},0)`);
    cursor.classList.add("on");
    tip.hidden = false;
  };
  const hide = () => {
    tip.hidden = true;
    cursor.classList.remove("on");
    at = -1;
  };

  svg.addEventListener("pointermove", (event) => {
    const x = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
    const distances = places.map((place) => Math.abs(place - x));
    show(distances.indexOf(Math.min(...distances)));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.setAttribute("tabindex", "0");
  svg.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key in moves) {
      event.preventDefault();
      show(at + moves[event.key]);
    } else if (event.key === "Escape") {
      hide();
    }
  });
}

// A picture fills the window when it is selected.
for (const image of document.querySelectorAll(".gallery img")) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-label", `Enlarge: ${image.alt}`);
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => {
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-label", image.alt);
    dialog.append(image.cloneNode());
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  });
}

document.documentElement.dataset.script = "ran";
