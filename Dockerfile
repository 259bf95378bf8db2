# Two stages: the first compiles, the second holds what runs. The embedded Postgres stays out of the image.
FROM node:20-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# Optional packages too: the compiler is one, of this machine's own kind.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY relay ./relay
RUN npm run -s build && npm ci --omit=dev --omit=optional --workspaces=false --ignore-scripts --prefer-offline

FROM node:20-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/relay/console/page ./relay/console/page
COPY package.json ./
COPY migrations ./migrations
COPY sql ./sql
USER node
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.PORT || 3000) + '/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "dist/relay/main.js"]
CMD ["relay"]
