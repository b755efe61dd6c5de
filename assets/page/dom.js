"use strict";

// Elements, numbers and choosers. Text is set with textContent only: a token may look like markup.
(() => {
  /** An element with attributes (functions become listeners) and children. */
  massact.element = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (value !== null && value !== undefined && value !== false) {
        element.setAttribute(name, value === true ? "" : value);
      }
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  };

  /** Four significant digits and all before the point, as in the tables. */
  massact.number = (value) => {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size < 1e-4 || size >= 1e7) return value.toExponential(3);
    const exponent = Number(value.toExponential(3).split("e")[1]);
    return value.toFixed(Math.max(3 - exponent, 0));
  };

  /** Buttons of which one is pressed; `choose` gets its value. */
  massact.switch = (label, options, value, choose) => {
    const buttons = options.map(([option, text]) =>
      massact.element("button", { type: "button", value: option, click: () => press(option) }, text),
    );
    const show = (pressed) => {
      for (const button of buttons) button.setAttribute("aria-pressed", button.value === pressed);
    };
    const press = (option) => {
      show(option);
      choose(option);
    };
    show(value);
    return massact.element("div", { class: "switch", role: "group", "aria-label": label }, ...buttons);
  };

  /** A labelled list to choose from; `choose` gets the value. */
  massact.chooser = (label, options, value, choose) => {
    const select = massact.element("select", { change: () => choose(select.value) });
    massact.options(select, options, value);
    return massact.element("label", { class: "chooser" }, massact.element("span", {}, label), select);
  };

  /** Fills a list anew. */
  massact.options = (select, options, value) => {
    select.replaceChildren(
      ...options.map(([option, text]) => massact.element("option", { value: option }, text)),
    );
    select.value = value;
  };

  /** Calls `draw(width)` now and whenever the box gets another width. */
  massact.fitted = (box, draw) => {
    let width = 0;
    const update = () => {
      const now = Math.floor(box.clientWidth);
      if (now > 0 && now !== width) {
        width = now;
        draw(width);
      }
    };
    // Not within the observer: what is drawn may change the width again.
    new ResizeObserver(() => requestAnimationFrame(update)).observe(box);
    update();
    return () => width > 0 && draw(width);
  };

  /** Ticks at multiples of 1, 2 or 5 times a power of ten, at least `least` apart. */
  const evenTicks = (low, high, least) => {
    const power = 10 ** Math.floor(Math.log10(least));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= least * 0.999);
    const ticks = [];
    for (let at = Math.ceil(low / step); at * step <= high; at += 1) ticks.push(at * step);
    return ticks;
  };

  /** Ticks at whole numbers, about `room` pixels apart. */
  massact.wholeTicks = (low, high, width, room = 48) =>
    evenTicks(low, high, Math.max(1, ((high - low) * room) / Math.max(width, 1)));

  /** Ticks of a logarithmic axis: powers of ten, with 2 and 5 or even steps where these are few. */
  massact.logTicks = (low, high, most = 8) => {
    const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const step = Math.max(1, Math.ceil((to - from) / most));
    const at = (factors) => {
      const ticks = [];
      for (let power = from; power <= to; power += step) {
        for (const factor of factors) {
          const tick = factor * 10 ** power;
          if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
        }
      }
      return ticks;
    };
    let ticks = at(3 * (to - from) <= most ? [1, 2, 5] : [1]);
    // Two powers of ten within three decades say little of what lies below them.
    if (ticks.length < 3) ticks = at([1, 2, 5]);
    return ticks.length < 3 && high > low ? evenTicks(low, high, (high - low) / Math.min(most, 5)) : ticks;
  };

  /** A tick's label: 1,000 or 10⁵. */
  massact.tick = (value) => {
    const size = Math.abs(value);
    if (size === 0 || (size >= 1e-3 && size < 1e5)) {
      return value.toLocaleString("en", { maximumSignificantDigits: 6 });
    }
    const power = Math.floor(Math.log10(size) + 1e-9);
    const factor = Number((value / 10 ** power).toPrecision(3));
    const raised = String(power).replace(/[-\d]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
    return factor === 1 ? `10${raised}` : `${factor}·10${raised}`;
  };

  /** What shows beside the pointer. */
  massact.tip = (points, options) =>
    Plot.tip(
      points,
      Plot.pointer({
        fontSize: 12,
        lineHeight: 1.3,
        lineWidth: 24,
        textPadding: 9,
        fill: "var(--ground)",
        stroke: "var(--line)",
        maxRadius: 60,
        ...options,
      }),
    );
})();
