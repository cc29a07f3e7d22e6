import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const api = `http://${process.env['NEPHILIA_API'] ?? 'localhost:16680'}`;

export default defineConfig({
  plugins: [react()],
  // Everything is relative; in the page, the server writes the path under which it serves.
  base: './',
  build: {
    outDir: '../extension/topologyquery/ui/dist',
    emptyOutDir: true,
    target: 'es2022',
    // The content security policy allows neither data: fonts nor data: images.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  worker: { format: 'es' },
  preview: { port: 5174, proxy: { '/api': api } },
  server: { port: 5173, proxy: { '/api': api } },
});
