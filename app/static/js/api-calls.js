// The calls of the API in Swagger UI; the plain list folds away, for it is there without this.
const place = document.getElementById("swagger-ui");
document.querySelector("[data-open-without-script]").open = false;
window.SwaggerUIBundle({
  domNode: place,
  url: place.dataset.document,
  deepLinking: false,
  docExpansion: "none",
  validatorUrl: null,
});
