// Starts Swagger UI on the service's own document.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");

function followColorScheme() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

followColorScheme();
dark.addEventListener("change", followColorScheme);

window.SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: "docs.json",
  validatorUrl: null, // no validator on the internet is asked
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
});
