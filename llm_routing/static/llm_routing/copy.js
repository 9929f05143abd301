"use strict";
// A button with data-copy="id" copies that input's value; without a clipboard it stays hidden.
for (const button of document.querySelectorAll("button[data-copy]")) {
    const input = document.getElementById(button.dataset.copy);
    input.addEventListener("focus", () => input.select());
    if (navigator.clipboard) {
        button.hidden = false;
        button.addEventListener("click", async () => {
            await navigator.clipboard.writeText(input.value);
            button.textContent = button.dataset.copied;
        });
    }
}
