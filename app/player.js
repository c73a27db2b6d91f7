// Plays what the server has drawn: every step is in the page, and one of them is shown.
(() => {
  const timers = new Map();
  const each = (root, query, act) => root.querySelectorAll(query).forEach(act);

  function show(player, step) {
    const name = player.dataset.player;
    const steps = Number(player.dataset.steps);
    const shown = ((step - 1 + steps) % steps) + 1;
    each(document, `[data-player="${name}"], [data-follows="${name}"]`, (root) => {
      each(root, "[data-t]", (frame) => {
        const side = frame.closest(".mz-side") ?? player;
        const last = Number(side.dataset.steps);
        frame.toggleAttribute("hidden", Number(frame.dataset.t) !== Math.min(shown, last));
      });
    });
    each(player, "input[type=range]", (slider) => { slider.value = shown; });
    each(player, "output", (output) => {
      output.textContent = output.textContent.replace(/\d+ of/, `${shown} of`);
    });
    return shown;
  }

  const shownIn = (player) => Number(player.querySelector("input[type=range]").value);

  function label(name) {
    const running = timers.has(name);
    each(document, `[data-player="${name}"] [data-do=play]`, (button) => {
      button.textContent = running ? "Pause" : "Play";
      button.setAttribute("aria-pressed", running);
    });
  }

  function pause(name) {
    clearInterval(timers.get(name));
    timers.delete(name);
    label(name);
  }

  function play(name) {
    const wait = name === "film" ? 90 : 700;
    timers.set(name, setInterval(() => {
      const player = document.querySelector(`[data-player="${name}"]`);
      if (player) show(player, shownIn(player) + 1);
      label(name);  // the server may have sent the player anew
    }, wait));
    label(name);
  }

  // What is shown, as one SVG: the page's own HTML inside, with its styles and colours.
  function drawing() {
    const view = document.querySelector(".mz-view");
    const inside = document.querySelector(".mz-detail");
    const width = Math.ceil(view.getBoundingClientRect().width);
    const styles = [...document.styleSheets].flatMap((sheet) => {
      try { return [...sheet.cssRules].map((rule) => rule.cssText); } catch { return []; }
    }).filter((text) => /mz|--l0/.test(text)).join("\n");
    const live = getComputedStyle(view);
    const copy = document.createElement("div");
    copy.setAttribute("xmlns", "http://www.w3.org/1999/xhtml");
    copy.className = document.body.classList.contains("dark") ? "dark" : "";
    copy.setAttribute("style", `background:var(--mz-page);padding:16px;` +
      `font:${live.font};color:${live.color}`);
    for (const part of [view, inside]) if (part) copy.append(part.cloneNode(true));
    each(copy, "[hidden], .mz-player", (element) => element.remove());
    const height = Math.ceil(view.scrollHeight + (inside?.scrollHeight ?? 0)) + 48;
    const html = new XMLSerializer().serializeToString(copy);
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width + 32}" height="${height}">` +
      `<style><![CDATA[${styles}]]></style>` +
      `<foreignObject width="100%" height="100%">${html}</foreignObject></svg>`;
    return { svg, width: width + 32, height };
  }

  function save(href, name) {
    const link = document.createElement("a");
    link.href = href;
    link.download = name;
    link.click();
  }

  const asAddress = (svg) => `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;

  function savePng() {
    const { svg, width, height } = drawing();
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      canvas.width = 2 * width;
      canvas.height = 2 * height;
      const context = canvas.getContext("2d");
      context.scale(2, 2);
      context.drawImage(image, 0, 0);
      save(canvas.toDataURL("image/png"), "thinking.png");
    };
    image.src = asAddress(svg);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-do]");
    const player = button?.closest("[data-player]");
    if (!player) return;
    const name = player.dataset.player;
    const running = timers.has(name);
    const move = { back: -1, on: 1 }[button.dataset.do];
    if (button.dataset.do === "svg") save(asAddress(drawing().svg), "thinking.svg");
    else if (button.dataset.do === "png") savePng();
    else {
      pause(name);
      if (move) show(player, shownIn(player) + move);
      else if (!running) play(name);
    }
  });

  // What the server sends anew, such as a layer that was opened, shows the step that its player is at.
  new MutationObserver((changes) => {
    for (const node of changes.flatMap((change) => [...change.addedNodes])) {
      if (node.nodeType !== Node.ELEMENT_NODE) continue;
      const root = node.closest("[data-player], [data-follows]") ??
        node.querySelector("[data-player], [data-follows]");
      const name = root?.dataset.player ?? root?.dataset.follows;
      const player = name && document.querySelector(`[data-player="${name}"]`);
      if (player) show(player, shownIn(player));
    }
  }).observe(document, { childList: true, subtree: true });

  document.addEventListener("input", (event) => {
    const player = event.target.closest?.("[data-player]");
    if (!player || event.target.type !== "range") return;
    pause(player.dataset.player);
    show(player, Number(event.target.value));
  });
})();
