<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="Symbology|Rendering" hasScaleBasedVisibilityFlag="0">
  <pipe>
    <!-- In probability, 0 to 1: QGIS applies the raster's scale of 0.004 before it colours. -->
    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" nodataColor="" classificationMin="0" classificationMax="1">
      <rasterTransparency/>
      <minMaxOrigin>
        <limits>None</limits>
        <extent>WholeRaster</extent>
        <statAccuracy>Estimated</statAccuracy>
      </minMaxOrigin>
      <rastershader>
        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" minimumValue="0" maximumValue="1" labelPrecision="2">
          <colorramp name="[source]" type="gradient">
            <Option type="Map">
              <Option name="color1" type="QString" value="68,1,84,255"/>
              <Option name="color2" type="QString" value="253,231,37,255"/>
              <Option name="discrete" type="QString" value="0"/>
              <Option name="rampType" type="QString" value="gradient"/>
              <Option name="stops" type="QString" value="0.05;71,19,101,255:0.1;72,36,117,255:0.15;70,52,128,255:0.2;65,68,135,255:0.25;59,82,139,255:0.3;53,95,141,255:0.35;47,108,142,255:0.4;42,120,142,255:0.45;37,132,142,255:0.5;33,145,140,255:0.55;30,156,137,255:0.6;34,168,132,255:0.65;47,180,124,255:0.7;68,191,112,255:0.75;94,201,98,255:0.8;122,209,81,255:0.85;155,217,60,255:0.9;189,223,38,255:0.95;223,227,24,255"/>
            </Option>
          </colorramp>
          <item value="0" label="0.00" color="#440154" alpha="255"/>
          <item value="0.05" label="0.05" color="#471365" alpha="255"/>
          <item value="0.1" label="0.10" color="#482475" alpha="255"/>
          <item value="0.15" label="0.15" color="#463480" alpha="255"/>
          <item value="0.2" label="0.20" color="#414487" alpha="255"/>
          <item value="0.25" label="0.25" color="#3b528b" alpha="255"/>
          <item value="0.3" label="0.30" color="#355f8d" alpha="255"/>
          <item value="0.35" label="0.35" color="#2f6c8e" alpha="255"/>
          <item value="0.4" label="0.40" color="#2a788e" alpha="255"/>
          <item value="0.45" label="0.45" color="#25848e" alpha="255"/>
          <item value="0.5" label="0.50" color="#21918c" alpha="255"/>
          <item value="0.55" label="0.55" color="#1e9c89" alpha="255"/>
          <item value="0.6" label="0.60" color="#22a884" alpha="255"/>
          <item value="0.65" label="0.65" color="#2fb47c" alpha="255"/>
          <item value="0.7" label="0.70" color="#44bf70" alpha="255"/>
          <item value="0.75" label="0.75" color="#5ec962" alpha="255"/>
          <item value="0.8" label="0.80" color="#7ad151" alpha="255"/>
          <item value="0.85" label="0.85" color="#9bd93c" alpha="255"/>
          <item value="0.9" label="0.90" color="#bddf26" alpha="255"/>
          <item value="0.95" label="0.95" color="#dfe318" alpha="255"/>
          <item value="1" label="1.00" color="#fde725" alpha="255"/>
          <rampLegendSettings useContinuousLegend="1" orientation="2" direction="0" prefix="probability " suffix="" minimumLabel="" maximumLabel=""/>
        </colorrampshader>
      </rastershader>
    </rasterrenderer>
    <brightnesscontrast brightness="0" contrast="0" gamma="1"/>
    <huesaturation saturation="0" grayscaleMode="0" colorizeOn="0" invertColors="0"/>
    <rasterresampler maxOversampling="2"/>
    <resamplingStage>resamplingFilter</resamplingStage>
  </pipe>
  <blendMode>0</blendMode>
</qgis>
